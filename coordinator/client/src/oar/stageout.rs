//! Results to a plain OAR server.

use std::path::Path;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::client::{Client, ClientError, answer};
use crate::transfer::{PAUSES, TransferError, counted, stalled};

/// The form's field that the server reads; what comes otherwise is answered with 200 and lost.
const FIELD: &str = "myfile";

/// Zeros after an archive, bytes. The server never closes its file: the last part, less than Perl's buffer of 8 KiB,
/// is written when the same worker takes the next upload, or ends. So that part is made of zeros, which gzip and tar
/// pass over at an archive's end.
const PADDING: u64 = 16 << 10;

/// How often the server may answer the same upload with a failure while it answers otherwise. One in 51 is a failure for
/// no reason.
const MAX_REFUSALS: usize = 4;

/// How often the connection may end in the middle of it.
const MAX_CUTS: usize = 30;

impl Client {
    /// `POST /jobs/ID/stageout.tgz` as a form.
    ///
    /// What is sent a second time is added to the first. The first archive's end is the end for tar; and a web server
    /// hands a request on when it is whole, so what was cut off on the way left nothing.
    pub(crate) async fn oar_stageout(&self, job: u64, path: &Path) -> Result<(), TransferError> {
        let (mut refusals, mut cuts) = (0, 0);
        loop {
            let error = match self.send_form(job, path).await {
                Err(TransferError::Client(error)) if error.is_transient() => error,
                done => return done,
            };
            // A server that is away altogether is waited for by the caller; one that answers fails at this.
            self.details(job).await?;
            match error.status() {
                Some(_) => refusals += 1,
                None => cuts += 1,
            }
            tracing::debug!(job, %error, refusals, cuts, "the results did not get through");
            if refusals == MAX_REFUSALS || cuts == MAX_CUTS {
                let length = tokio::fs::metadata(path).await.map_or(0, |found| found.len());
                return Err(TransferError::NotTaken { length, error });
            }
            let pause = PAUSES[(refusals + cuts - 1).min(PAUSES.len() - 1)];
            tokio::time::sleep(pause).await;
        }
    }

    async fn send_form(&self, job: u64, path: &Path) -> Result<(), TransferError> {
        let failed = TransferError::file(path);
        let file = File::open(path).await.map_err(&failed)?;
        let length = file.metadata().await.map_err(&failed)?.len();
        let padded = file.take(length).chain(tokio::io::repeat(0).take(PADDING));
        let (body, handed_over) =
            counted(self.clone(), ReaderStream::with_capacity(padded, 64 * 1024));
        let part = Part::stream_with_length(body, length + PADDING)
            .file_name(format!("{job}.tgz"))
            .mime_str("application/x-gzip")
            .map_err(|error| ClientError::of_request(self.base(), error))?;
        let url = self.at(&["jobs", &job.to_string(), "stageout.tgz"]);
        let request = self.request(Method::POST, url).multipart(Form::new().part(FIELD, part));
        let response = tokio::select! {
            response = self.send(request) => response?,
            () = stalled(&handed_over) => {
                return Err(ClientError::unreachable(self.base(), "the upload stands still").into());
            }
        };
        answer::success(self.base(), response).await?;
        Ok(())
    }
}
