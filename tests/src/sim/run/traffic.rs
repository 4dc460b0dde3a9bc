//! Messages between clients and nodes, and what the clients learn from them.

use super::{Event, SentRecord, World};
use crate::sim::checker::{Violation, served};
use crate::sim::history::{Sent, What};
use crate::sim::network::{ConnectionId, StreamId, Way};
use crate::sim::node::{Request, RequestId, Response};
use crate::sim::trace::Who;
use crate::sim::workload::{Fact, Scene};
use headwater_protocol::ids::TopicPartition;

/// How long a broker keeps a produce request waiting (`timeout_ms`).
const REQUEST_TIMEOUT_US: u64 = 4_000_000;

impl World {
    pub(super) fn step_client(&mut self, number: usize) -> Result<(), Violation> {
        let Some(seat) = self.clients.get_mut(number) else { return Ok(()) };
        if seat.scheduled_us.is_none_or(|at_us| at_us > self.now_us) {
            return Ok(());
        }
        seat.scheduled_us = None;
        if seat.client.is_out_of_patience(self.now_us)
            && let Some(connection) = seat.connection
        {
            self.network.lose(&mut self.rng, connection, self.now_us, self.shape.network_us * 4);
            return self.lost(connection);
        }
        self.with_client(number, |client, scene| client.step(scene))
    }

    /// Lets a client act, then carries out what it wants and notes what it learned.
    fn with_client(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut dyn crate::sim::workload::Client, &mut Scene<'_>),
    ) -> Result<(), Violation> {
        let Some(seat) = self.clients.get_mut(number) else { return Ok(()) };
        let mut scene = Scene::new(self.now_us, self.begin, &mut self.rng, &mut self.next_number, self.ending);
        act(seat.client.as_mut(), &mut scene);
        let Scene { requests, facts, wake_us, .. } = scene;
        if seat.scheduled_us.is_none_or(|at_us| at_us > wake_us) {
            seat.scheduled_us = Some(wake_us);
            self.schedule(wake_us, Event::Client { client: number });
        }
        for fact in facts {
            self.learn(number, fact)?;
        }
        self.send(number, requests)
    }

    fn send(&mut self, number: usize, requests: Vec<(StreamId, Request)>) -> Result<(), Violation> {
        if requests.is_empty() {
            return Ok(());
        }
        // One broker today; with more a request goes to whom it is meant for.
        let node = 0;
        let seat = &mut self.clients[number];
        let connection = match seat.connection {
            Some(connection) => connection,
            None if self.nodes[node].broker.is_some() && self.now_us >= seat.reconnect_us => {
                let run = self.nodes[node].run;
                let connection = self.network.connect(number, node, run);
                seat.connection = Some(connection);
                self.trace.note(self.now_us, Who::Client(number), "connect", &[connection.cast_signed()]);
                connection
            }
            None => {
                // Nobody is there: that is known at once.
                seat.reconnect_us = seat.reconnect_us.max(self.now_us + 1000);
                return self.with_client(number, |client, scene| client.on_lost(scene));
            }
        };
        for (stream, request) in requests {
            let from = (self.now_us, self.shape.network_us);
            let at_us = self.network.arrival_us(&mut self.rng, connection, stream, Way::In, from);
            self.schedule(at_us, Event::ToNode { connection, stream, request: Box::new(request) });
        }
        Ok(())
    }

    pub(super) fn arrive_at_node(
        &mut self,
        id: ConnectionId,
        stream: StreamId,
        request: Request,
    ) -> Result<(), Violation> {
        let Some(connection) = self.network.arrives(id, Way::In, self.now_us) else { return Ok(()) };
        let (number, run) = (connection.node, connection.run);
        if self.nodes[number].run != run || self.nodes[number].broker.is_none() {
            return Ok(());
        }
        if self.is_paused(number) {
            self.held[number].push_back(Event::ToNode { connection: id, stream, request: Box::new(request) });
            return Ok(());
        }
        let numbers = [id.cast_signed(), i64::from(stream), kind_of(&request)];
        self.trace.note(self.now_us, Who::Node(number), "request", &numbers);
        let Some(broker) = &mut self.nodes[number].broker else { return Ok(()) };
        match request {
            Request::Produce { correlation, acks, batches } => {
                let request = broker.produce((id, stream), correlation, acks, batches);
                self.schedule(self.now_us + REQUEST_TIMEOUT_US, Event::TimeOut { node: number, run, request });
            }
            request => {
                let before = broker.metadata.image();
                if let Request::DeleteTopic { name } = &request {
                    self.doomed_topics.extend(before.topic_by_name(name).map(|topic| topic.id));
                }
                let response = broker.serve(number, request);
                let after = broker.metadata.image();
                for topic in before.topics().filter(|topic| after.topic(topic.id).is_none()) {
                    for partition in 0..topic.partition_count() {
                        let gone = headwater_protocol::ids::TopicPartition { topic: topic.id, partition };
                        self.acknowledged.forget(gone);
                        self.offsets.forget(gone);
                    }
                }
                self.answered[number].note(after.index().0);
                if let Response::ProducerId(Ok(producer_id)) = response {
                    self.answered[number].note_producer(producer_id)?;
                }
                self.answer(id, stream, response);
            }
        }
        self.settle(number);
        Ok(())
    }

    pub(super) fn time_out(&mut self, number: usize, request: RequestId) {
        if let Some(broker) = &mut self.nodes[number].broker {
            broker.time_out(request);
        }
    }

    pub(super) fn answer(&mut self, connection: ConnectionId, stream: StreamId, response: Response) {
        let from = (self.now_us, self.shape.network_us);
        let at_us = self.network.arrival_us(&mut self.rng, connection, stream, Way::Out, from);
        self.schedule(at_us, Event::ToClient { connection, stream, response: Box::new(response) });
    }

    pub(super) fn arrive_at_client(
        &mut self,
        id: ConnectionId,
        stream: StreamId,
        response: Response,
    ) -> Result<(), Violation> {
        let Some(connection) = self.network.arrives(id, Way::Out, self.now_us) else { return Ok(()) };
        let (client, node, run) = (connection.client, connection.node, connection.run);
        self.hears_earlier_run = self.nodes[node].run != run || self.nodes[node].broker.is_none();
        self.trace.note(self.now_us, Who::Client(client), "answer", &[id.cast_signed(), i64::from(stream)]);
        let heard = self.with_client(client, |client, scene| client.on_response(scene, stream, response));
        self.hears_earlier_run = false;
        heard
    }

    /// Whether what was just heard of a partition can't be held against what is there now: the topic is gone, or an
    /// earlier run said so, before the power went, of a topic that does not promise to survive that.
    fn is_past(&self, id: TopicPartition) -> bool {
        let is_gone = |node: &super::Node| {
            node.broker.as_ref().is_some_and(|broker| broker.metadata.image().partition(id).is_none())
        };
        self.hears_earlier_run && self.os_topics.contains(&id.topic) || self.nodes.iter().any(is_gone)
    }

    /// A client notices that its connection is gone.
    pub(super) fn lost(&mut self, id: ConnectionId) -> Result<(), Violation> {
        let lingers_us = self.shape.network_us * self.shape.lingers;
        self.network.lose(&mut self.rng, id, self.now_us, lingers_us);
        let Some(client) = self.clients.iter().position(|seat| seat.connection == Some(id)) else { return Ok(()) };
        self.clients[client].connection = None;
        self.trace.note(self.now_us, Who::Client(client), "lost", &[id.cast_signed()]);
        self.with_client(client, |client, scene| client.on_lost(scene))
    }

    fn learn(&mut self, client: usize, fact: Fact) -> Result<(), Violation> {
        match fact {
            Fact::Sent { number, meaning } => {
                self.trace.note(self.now_us, Who::Client(client), "sent", &[number.cast_signed()]);
                self.history.send(client, self.now_us, number);
                self.sent.insert(number, SentRecord { producer: client, meaning });
                Ok(())
            }
            Fact::Acknowledged { number, id, offset } => {
                self.trace.note(self.now_us, Who::Client(client), "acked", &[number.cast_signed(), offset]);
                self.acknowledged_count += 1;
                let became = Sent::Acknowledged { key: id, offset, at_us: self.now_us };
                self.history.settle(number, became);
                let Some(sent) = self.sent.get(&number).copied() else { return Ok(()) };
                if self.is_past(id) {
                    return Ok(());
                }
                self.acknowledged.note(id, offset, sent.meaning, number)?;
                self.offsets.note(id, offset, sent.meaning)
            }
            Fact::Failed { number } => {
                self.trace.note(self.now_us, Who::Client(client), "failed", &[number.cast_signed()]);
                self.history.settle(number, Sent::Unknown { at_us: self.now_us });
                Ok(())
            }
            Fact::OutOfTurn { number, id } => {
                // Where acknowledged records may be lost, so may those before this one; and what a start could not
                // read, because it had rotted, nobody knows of.
                let is_rotten = self.decay.iter().any(|decay| decay.concerns(&id.to_string()));
                if is_rotten || self.os_topics.contains(&id.topic) {
                    return Ok(());
                }
                let found = format!("#{number} of {id} was refused as out of its producer's order (IDP-2)");
                Err(Violation::new("order", found))
            }
            Fact::Received { id, offset, batches, high_watermark } => {
                let records = served::check(id, offset, batches, high_watermark, self.cleaned.concerns(id))?;
                let polled: Option<Vec<_>> =
                    records.iter().map(|record| record.number.map(|number| (record.offset, number))).collect();
                // What tasks write has no numbers, and a checker of its own.
                if let Some(records) = polled.filter(|records| !records.is_empty()) {
                    self.history.note(client, self.now_us, What::Poll { key: id, records });
                }
                if self.is_past(id) {
                    return Ok(());
                }
                let numbers = [i64::from(id.partition), offset, records.len().cast_signed() as i64];
                self.trace.note(self.now_us, Who::Client(client), "received", &numbers);
                records.iter().try_for_each(|record| self.offsets.note(id, record.offset, record.meaning))
            }
            Fact::Sought { id } => {
                self.history.note(client, self.now_us, What::Seek { key: id });
                Ok(())
            }
            Fact::BrokeProtocol(found) => Err(Violation::new("protocol", found)),
        }
    }
}

fn kind_of(request: &Request) -> i64 {
    match request {
        Request::Produce { .. } => 0,
        Request::Fetch { .. } => 1,
        Request::Metadata => 2,
        Request::InitProducerId => 3,
        Request::CreateTopic { .. } => 4,
        Request::DeleteTopic { .. } => 5,
        Request::AddModule(_) => 6,
        Request::Deploy { .. } => 7,
        Request::Pause { .. } => 8,
        Request::DeleteProcessor { .. } => 9,
        Request::RestartFailed => 10,
    }
}
