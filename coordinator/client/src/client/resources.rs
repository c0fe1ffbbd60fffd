//! Resources and nodes.

use std::collections::BTreeMap;

use coordinator_api::List;
use coordinator_api::accounting::ProjectUse;
use coordinator_api::resource::{ResourceItem, ResourceRow};

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

    /// `GET /resources/details`, all pages.
    pub async fn resource_rows(&self) -> Result<Vec<ResourceRow>, ClientError> {
        let mut rows: Vec<ResourceRow> = Vec::new();
        loop {
            let mut url = self.at(&["resources", "details.json"]);
            url.query_pairs_mut().append_pair("offset", &rows.len().to_string());
            let page: List<ResourceRow> = self.json(self.get(url)).await?;
            let empty = page.items.is_empty();
            rows.extend(page.items);
            if empty || rows.len() >= page.total {
                return Ok(rows);
            }
        }
    }

    /// `GET /resources/nodes/NODE`: the resources of a node.
    pub async fn node_resources(&self, node: &str) -> Result<List<ResourceItem>, ClientError> {
        self.json(self.get(self.at(&["resources", "nodes", &format!("{node}.json")]))).await
    }

    /// `GET /accounting[/USER]`: by project; `from` and `to` are seconds since the Unix epoch.
    pub async fn accounting(
        &self,
        user: Option<&str>,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<List<ProjectUse>, ClientError> {
        let mut url = match user {
            Some(user) => self.at(&["accounting", &format!("{user}.json")]),
            None => self.at(&["accounting.json"]),
        };
        for (name, time) in [("from", from), ("to", to)] {
            if let Some(time) = time {
                url.query_pairs_mut().append_pair(name, &time.to_string());
            }
        }
        self.json(self.get(url)).await
    }

    /// `POST /resources/ID/state`: for operators; the whole node goes with its resource.
    pub async fn set_node_state(&self, resource: u64, state: &str) -> Result<(), ClientError> {
        let url = self.at(&["resources", &resource.to_string(), "state.json"]);
        self.done(self.post(url).json(&serde_json::json!({ "state": state }))).await
    }

    /// `POST /resources/nodes/NODE/properties`: for operators; an empty text takes a property away.
    pub async fn set_properties(
        &self,
        node: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<(), ClientError> {
        let url = self.at(&["resources", "nodes", node, "properties.json"]);
        self.done(self.post(url).json(properties)).await
    }

    /// The answer holds nothing that is not known already.
    async fn done(&self, request: reqwest::RequestBuilder) -> Result<(), ClientError> {
        let _answer: serde_json::Value = self.json(request).await?;
        Ok(())
    }
}
