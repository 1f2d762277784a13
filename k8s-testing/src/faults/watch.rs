//! Watch events that come late, twice, or not at all.

use std::{collections::VecDeque, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http_body_util::BodyStream;
use k8s_apiserver::http::Body;

use super::{Fault, Faults, layer::lost};
use crate::gate::BoxError;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

struct Spoiled {
    pieces: Pieces,
    /// What has come of the next event.
    partial: BytesMut,
    ready: VecDeque<Bytes>,
    faults: Faults,
    /// Ends when nothing gets through any more.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    request: String,
    turn: u64,
    /// How many events have come.
    events: u64,
    over: bool,
}

/// The body of a watch, in lines of JSON, with faults in it.
pub(super) fn spoil(body: Body, faults: Faults, request: String, turn: u64) -> Body {
    let pieces = BodyStream::new(body).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    });
    let spoiled = Spoiled {
        pieces: Box::pin(pieces),
        partial: BytesMut::new(),
        ready: VecDeque::new(),
        cut: Box::pin(faults.fates.until_cut()),
        faults,
        request,
        turn,
        events: 0,
        over: false,
    };
    Body::from_stream(stream::unfold(spoiled, |mut spoiled| async move {
        let next = spoiled.next().await?;
        Some((next, spoiled))
    }))
}

/// A body that comes as it is, until nothing gets through any more.
pub(super) fn until_cut(body: Body, faults: &Faults) -> Body {
    let pieces = BodyStream::new(body).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    });
    let cut = Box::pin(faults.fates.until_cut());
    let state = Some((Box::pin(pieces), cut));
    Body::from_stream(stream::unfold(state, |state| async move {
        let (mut pieces, mut cut) = state?;
        tokio::select! {
            biased;
            () = &mut cut => Some((Err(lost()), None)),
            piece = pieces.next() => Some((piece?, Some((pieces, cut)))),
        }
    }))
}

impl Spoiled {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            let ended = self.over && self.ready.is_empty();
            if !ended && self.faults.fates.is_cut() {
                self.over = true;
                self.ready.clear();
                return Some(Err(lost()));
            }
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            if self.over {
                return None;
            }
            if let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line = self.partial.split_to(end + 1).freeze();
                if let Err(error) = self.event(line).await {
                    self.over = true;
                    return Some(Err(error));
                }
                continue;
            }
            let piece = tokio::select! {
                biased;
                () = &mut self.cut => Some(Err(lost())),
                piece = self.pieces.next() => piece,
            };
            match piece {
                Some(Ok(piece)) => self.partial.extend_from_slice(&piece),
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Err(error));
                }
                None => {
                    self.over = true;
                    let rest = std::mem::take(&mut self.partial).freeze();
                    self.ready.extend((!rest.is_empty()).then_some(rest));
                }
            }
        }
    }

    async fn event(&mut self, line: Bytes) -> Result<(), BoxError> {
        let event = self.events;
        self.events += 1;
        let faults = &self.faults;
        let hits = |fault, chance| {
            let (at_most, request) = (faults.at_most, &self.request);
            faults
                .fates
                .hits(fault, chance, at_most, request, self.turn, Some(event))
        };
        let chances = &faults.chances;
        if hits(Fault::LostWatch, chances.lost) {
            return Err(lost());
        }
        if hits(Fault::DelayedEvent, chances.delayed) {
            tokio::select! {
                biased;
                () = &mut self.cut => return Err(lost()),
                () = tokio::time::sleep(faults.delay) => {}
            }
        }
        let is_change = ["ADDED", "MODIFIED", "DELETED"]
            .iter()
            .any(|kind| line.starts_with(format!("{{\"type\":\"{kind}\"").as_bytes()));
        if is_change && hits(Fault::DroppedEvent, chances.dropped) {
            return Ok(());
        }
        if is_change && hits(Fault::RepeatedEvent, chances.repeated) {
            self.ready.push_back(line.clone());
        }
        self.ready.push_back(line);
        Ok(())
    }
}
