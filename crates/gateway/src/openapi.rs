//! `GET /work/v1/openapi.json`: the API for machines. The page is kept by hand beside the manifest;
//! the tests hold it to the table of routes and to the fields that the calls take.

use bytes::Bytes;

use crate::answer::{Answer, JSON};
use crate::call::{Call, Task};
use crate::route::Request;
use crate::{Failure, Under};

pub(crate) const PAGE: &str = include_str!("../openapi.json");

struct Page;

impl Task for Page {
    fn answer(&mut self) -> Option<Answer> {
        Some(Answer::new(JSON, Bytes::from_static(PAGE.as_bytes())))
    }
}

pub(crate) fn read(request: &Request<'_>) -> Result<Call, Failure> {
    Ok(Call::new(&request.query(&[])?, Under::Nobody, Page))
}
