//! [`Garden`]: the queues and exchanges of a run and what each of them promises. Declared once by
//! the first client; everybody else relies on them being there.

use bytes::BytesMut;
use model::table::{self, Value};
use proto_amqp::table::Method;

use crate::dice::Dice;
use crate::fact::{Place, Tube};

/// What a queue is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Plain durable work.
    Work,
    /// Priorities.
    Priority,
    /// A delivery limit, then the dead letters.
    Limited,
    /// A time to live, then the dead letters.
    Timed,
    /// Behind a delayed exchange.
    Delayed,
    /// A length limit that drops from the head into the dead letters.
    Short,
    /// A length limit that refuses publishers.
    Full,
    /// Not durable.
    Brief,
    /// Jobs of transactions.
    Input,
    /// Their results.
    Outcome,
    /// What follows them.
    Next,
    /// One of several queues of one exchange.
    Fan,
    /// Where dead letters go.
    Dead,
    /// Emptied and deleted again and again.
    Churn,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct Bed {
    /// Its name.
    pub name: String,
    /// What it is there for.
    pub purpose: Use,
    /// `x-max-priority`.
    pub priority_max: u8,
    /// `x-message-ttl`.
    pub ttl_ms: Option<u64>,
    /// `x-max-length`.
    pub length_max: Option<u64>,
    /// `x-delivery-limit`.
    pub delivery_max: Option<u32>,
    /// A quorum queue: shows the delivery count.
    pub is_quorum: bool,
    /// Dead letters go there.
    pub dead: Option<Place>,
}

impl Bed {
    /// A queue without anything special.
    pub fn plain(name: &str, purpose: Use) -> Self {
        Self {
            name: name.to_owned(),
            purpose,
            priority_max: 0,
            ttl_ms: None,
            length_max: None,
            delivery_max: None,
            is_quorum: false,
            dead: None,
        }
    }

    /// It is declared once and stays for the whole run.
    pub fn is_kept(&self) -> bool {
        !matches!(self.purpose, Use::Brief | Use::Churn)
    }
}

/// How a publisher reaches queues.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its exchange.
    pub exchange: &'static str,
    /// Its routing key.
    pub key: String,
    /// The queues that the message must enter.
    pub targets: Vec<Place>,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Garden {
    /// By place.
    pub beds: Vec<Bed>,
    /// What publishers may use.
    pub routes: Vec<Route>,
    /// Tubes, which nobody declares: they come and go with what is in them.
    pub tubes: Vec<String>,
}

/// The exchange whose messages wait.
const LATER: &str = "later";
/// The exchange that copies.
const FAN: &str = "fan";
/// The exchange with patterns.
const TOPIC: &str = "topic";

impl Garden {
    /// Lays out a garden by chance.
    pub fn lay_out(dice: &mut Dice) -> Self {
        let mut garden = Self::default();
        let dead = garden.bed("dead", Use::Dead);
        let work = garden.bed("work", Use::Work);
        garden.route("", "work", vec![work]);
        for purpose in [Use::Priority, Use::Limited, Use::Timed, Use::Short, Use::Full, Use::Brief]
        {
            if dice.chance(45) {
                garden.single(purpose, dead, dice);
            }
        }
        if dice.chance(45) {
            let place = garden.bed("delayed", Use::Delayed);
            garden.route(LATER, "delayed", vec![place]);
        }
        if dice.chance(50) {
            let places = ["fan-a", "fan-b", "fan-c"].map(|name| garden.bed(name, Use::Fan));
            let [a, b, c] = places;
            garden.route(FAN, "", vec![a, b]);
            garden.route(TOPIC, "bed.red.b", vec![b, c]);
            garden.route(TOPIC, "bed.blue", vec![c]);
        }
        if dice.chance(60) {
            let input = garden.bed("input", Use::Input);
            garden.bed("outcome", Use::Outcome);
            garden.bed("next", Use::Next);
            garden.route("", "input", vec![input]);
        }
        if dice.chance(40) {
            garden.bed("churn", Use::Churn);
        }
        let tubes = if dice.chance(60) { dice.within(1..4) } else { 0 };
        garden.tubes = (0..tubes).map(|tube| format!("tube-{tube}")).collect();
        garden
    }

    /// A queue of its own with what makes it special.
    fn single(&mut self, purpose: Use, dead: Place, dice: &mut Dice) {
        let name = format!("{purpose:?}").to_lowercase();
        let place = self.bed(&name, purpose);
        self.route("", &name, vec![place]);
        let Some(bed) = self.beds.last_mut() else { return };
        match purpose {
            Use::Priority => bed.priority_max = u8::try_from(dice.within(2..10)).unwrap_or(5),
            Use::Limited => {
                bed.delivery_max = u32::try_from(dice.within(1..5)).ok();
                bed.is_quorum = dice.chance(70);
                bed.dead = Some(dead);
            }
            Use::Timed => {
                bed.ttl_ms = Some(dice.within(20..4_000));
                bed.dead = Some(dead);
            }
            Use::Short => {
                bed.length_max = Some(dice.within(1..40));
                bed.dead = Some(dead);
            }
            Use::Full => bed.length_max = Some(dice.within(1..40)),
            _ => {}
        }
    }

    fn bed(&mut self, name: &str, purpose: Use) -> Place {
        let place = Place::try_from(self.beds.len()).unwrap_or(Place::MAX);
        self.beds.push(Bed::plain(name, purpose));
        place
    }

    fn route(&mut self, exchange: &'static str, key: &str, targets: Vec<Place>) {
        self.routes.push(Route { exchange, key: key.to_owned(), targets });
    }

    /// The queue at a place.
    pub fn get(&self, place: Place) -> Option<&Bed> {
        self.beds.get(usize::from(place))
    }

    /// The first queue with this purpose.
    pub fn find(&self, purpose: Use) -> Option<Place> {
        let at = self.beds.iter().position(|bed| bed.purpose == purpose)?;
        Place::try_from(at).ok()
    }

    /// The place of a queue name.
    pub fn named(&self, name: &[u8]) -> Option<Place> {
        let at = self.beds.iter().position(|bed| bed.name.as_bytes() == name)?;
        Place::try_from(at).ok()
    }

    /// The name of a tube.
    pub fn tube(&self, tube: Tube) -> &str {
        self.tubes.get(usize::from(tube)).map_or("default", String::as_str)
    }

    /// All places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.beds.len()).filter_map(|at| Place::try_from(at).ok())
    }

    /// Whether what entered `from` may stand in `to`: there, or as its dead letter.
    pub fn leads(&self, from: Place, to: Place) -> bool {
        from == to || self.get(from).is_some_and(|bed| bed.dead == Some(to))
    }

    /// Asks for everything that is durable; returns how many answers come.
    pub fn declare(&self, out: &mut BytesMut) -> usize {
        let mut answers = 3;
        put_exchange(out, LATER, "x-delayed-message");
        put_exchange(out, FAN, "fanout");
        put_exchange(out, TOPIC, "topic");
        for bed in &self.beds {
            if bed.is_kept() {
                self.declare_bed(out, bed);
                answers += 1;
            }
        }
        let delayed = self.find(Use::Delayed).and_then(|place| self.get(place));
        let mut bindings: Vec<(&str, &str, &str)> = Vec::new();
        if let Some(bed) = delayed {
            bindings.push((LATER, "delayed", &bed.name));
        }
        if self.find(Use::Fan).is_some() {
            bindings.extend([(FAN, "", "fan-a"), (FAN, "", "fan-b")]);
            bindings.extend([(TOPIC, "bed.*.b", "fan-b"), (TOPIC, "bed.#", "fan-c")]);
        }
        for (exchange, key, queue) in bindings {
            answers += 1;
            let (queue, exchange) = (queue.as_bytes(), exchange.as_bytes());
            let routing_key = key.as_bytes();
            let arguments = &[];
            let bind = Method::QueueBind {
                ticket: 0,
                queue,
                exchange,
                routing_key,
                nowait: false,
                arguments,
            };
            bind.put(out, 1);
        }
        answers
    }

    /// Asks for one queue.
    pub fn declare_bed(&self, out: &mut BytesMut, bed: &Bed) {
        let arguments = self.arguments(bed);
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue: bed.name.as_bytes(),
            passive: false,
            durable: bed.purpose != Use::Brief,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: &arguments,
        };
        declare.put(out, 1);
    }

    fn arguments(&self, bed: &Bed) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                table::put_field(&mut out, name.as_bytes(), Value::Uint(value));
            }
        };
        number("x-message-ttl", bed.ttl_ms);
        number("x-max-length", bed.length_max);
        number("x-delivery-limit", bed.delivery_max.map(u64::from));
        number("x-max-priority", (bed.priority_max > 0).then_some(u64::from(bed.priority_max)));
        let mut text = |name: &str, value: &str| {
            table::put_field(&mut out, name.as_bytes(), Value::Text(value.as_bytes()));
        };
        if bed.purpose == Use::Full {
            text("x-overflow", "reject-publish");
        }
        if bed.is_quorum {
            text("x-queue-type", "quorum");
        }
        if let Some(dead) = bed.dead.and_then(|place| self.get(place)) {
            text("x-dead-letter-exchange", "");
            text("x-dead-letter-routing-key", &dead.name);
        }
        out
    }
}

fn put_exchange(out: &mut BytesMut, name: &str, kind: &str) {
    let mut arguments = Vec::new();
    if name == LATER {
        table::put_field(&mut arguments, b"x-delayed-type", Value::Text(b"direct"));
    }
    let declare = Method::ExchangeDeclare {
        ticket: 0,
        exchange: name.as_bytes(),
        kind: kind.as_bytes(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: &arguments,
    };
    declare.put(out, 1);
}
