//! Resources and nodes.

use coordinator_api::List;
use coordinator_api::resource::ResourceItem;

use super::{Client, ClientError};

impl Client {
    /// `GET /resources`, all pages.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so for every method here.
    pub async fn resources(&self) -> Result<Vec<ResourceItem>, ClientError> {
        let mut items: Vec<ResourceItem> = Vec::new();
        loop {
            let mut url = self.at(&["resources.json"]);
            url.query_pairs_mut().append_pair("offset", &items.len().to_string());
            let page: List<ResourceItem> = self.json(self.get(url)).await?;
            let empty = page.items.is_empty();
            items.extend(page.items);
            if empty || items.len() >= page.total {
                return Ok(items);
            }
        }
    }

    /// `GET /resources/details`: every column, as the server has them. The first page.
    pub async fn resource_details(&self) -> Result<List<serde_json::Value>, ClientError> {
        self.json(self.get(self.at(&["resources", "details.json"]))).await
    }

    /// `GET /resources/nodes/NODE`: the resources of a node.
    pub async fn node_resources(&self, node: &str) -> Result<List<ResourceItem>, ClientError> {
        self.json(self.get(self.at(&["resources", "nodes", &format!("{node}.json")]))).await
    }
}
