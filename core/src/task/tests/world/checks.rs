//! OUT-1…6 of the step protocol, checked after every event.

use super::{Appended, Checked, OUTPUTS, SUM, World};
use crate::task::output::OutputQueue;
use headwater_protocol::ids::TopicPartition;
use headwater_state::StateStore;

impl World {
    pub(in crate::task::tests) fn check(&self) -> Checked {
        // A mutant must be caught by what users would see, not by its own books.
        for instance in self.instances.iter().filter(|_| self.without.is_none()) {
            instance.task.invariants().map_err(|violation| violation.to_string())?;
        }
        self.outputs_are_a_prefix()?;
        self.commits_tile_the_input()?;
        self.state_is_the_fold()?;
        self.acknowledged_is_there()?;
        self.floors_are_true()?;
        match self.task().stopped() {
            Some(reason) => Err(format!("OUT-2: the owner stopped: {reason}")),
            None => Ok(()),
        }
    }

    /// What the durable commits write to each output, in order.
    fn expected(&self, output: usize) -> impl Iterator<Item = &String> {
        self.changelog[..self.durable].iter().flat_map(move |appended| &appended.values[output])
    }

    fn outputs_are_a_prefix(&self) -> Checked {
        for (output, log) in self.outputs.iter().enumerate() {
            let mut expected = self.expected(output);
            for (place, value) in log.visible_values().enumerate() {
                let should_be = expected.next();
                if should_be != Some(value) {
                    return Err(format!("OUT-1: output {output} shows {value:?} at {place}, should be {should_be:?}"));
                }
            }
        }
        Ok(())
    }

    fn commits_tile_the_input(&self) -> Checked {
        let mut position = 0;
        for Appended { commit, .. } in &self.changelog[..self.durable] {
            for range in &commit.step().inputs {
                if range.from != position {
                    return Err(format!("OUT-3: a durable step reads from {}, should be {position}", range.from));
                }
                position = range.to;
            }
        }
        Ok(())
    }

    /// The state that each commit leaves: the sum of all input that it and its predecessors read.
    fn folds(&self) -> impl Iterator<Item = (&Appended, u64)> {
        let (mut read, mut sum) = (0, 0);
        self.changelog.iter().map(move |appended| {
            for range in &appended.commit.step().inputs {
                let to = (range.to as usize).min(self.input.len());
                sum += self.input.get(read..to).unwrap_or_default().iter().sum::<u64>();
                read = read.max(to);
            }
            (appended, sum)
        })
    }

    fn state_is_the_fold(&self) -> Checked {
        for (Appended { commit, .. }, fold) in self.folds().take(self.durable) {
            for change in commit.changes() {
                let sum = u64::from_be_bytes(change.value.unwrap().try_into().unwrap());
                if sum != fold {
                    return Err(format!("OUT-4: step {} says {sum}, the fold is {fold}", commit.step().step));
                }
            }
        }
        let store = self.instances[self.owner()].overlay.store();
        let Some(position) = store.position() else { return Ok(()) };
        if position.next_offset > self.high_watermark() {
            return Err(format!("OUT-4: the store is at {position:?}, beyond the high watermark"));
        }
        let mut sum = 0;
        let mut found = |value: Option<&[u8]>| sum = value.map_or(0, |it| u64::from_be_bytes(it.try_into().unwrap()));
        store.get(super::STORE, SUM, &mut found).unwrap();
        let fold = self.folds().filter(|(it, _)| it.commit.step().step <= position.step).last().map_or(0, |it| it.1);
        if sum == fold { Ok(()) } else { Err(format!("OUT-4: the store says {sum}, the fold is {fold}")) }
    }

    fn visible_count(&self, output: TopicPartition) -> u64 {
        let place = OUTPUTS.iter().position(|known| *known == output);
        place.map_or(0, |place| self.outputs[place].visible_values().count() as u64)
    }

    fn acknowledged_is_there(&self) -> Checked {
        for output in OUTPUTS {
            let visible = self.visible_count(output);
            for (number, instance) in self.instances.iter().enumerate() {
                let acknowledged = instance.task.outputs.get(&output).map_or(0, OutputQueue::acknowledged);
                if acknowledged > visible {
                    return Err(format!("OUT-5: instance {number} holds {acknowledged} of {visible} for acknowledged"));
                }
            }
        }
        Ok(())
    }

    fn floors_are_true(&self) -> Checked {
        let visible = OUTPUTS.map(|output| self.visible_count(output));
        // The lowest step with an output that is not there.
        let missing = self.changelog.iter().find(|appended| {
            let numbers = appended.commit.numbers().iter();
            let mut ends = numbers.map(|(output, next)| (OUTPUTS.iter().position(|known| known == output), next));
            ends.any(|(output, next)| output.is_none_or(|output| *next > visible[output]))
        });
        let Some(missing) = missing.map(|appended| appended.commit.step().step) else { return Ok(()) };
        let floors = self.changelog.iter().map(|appended| appended.commit.step().floor);
        match floors.max() {
            Some(floor) if floor > missing => {
                Err(format!("OUT-6: floor {floor} is recorded, step {missing} is not there"))
            }
            _ => Ok(()),
        }
    }

    /// OUT-2: with no more faults and no help of zombies, everything arrives and is acknowledged, and that is recorded.
    pub(in crate::task::tests) fn heal(&mut self) -> Checked {
        self.input_durable = self.input.len();
        for _ in 0..400 {
            let owner = self.owner();
            while !self.instances[owner].to_append.is_empty() {
                self.append(owner)?;
            }
            while self.durable < self.changelog.len() {
                self.commit_durable()?;
            }
            self.tell(owner)?;
            let mine = |message: &super::Message| message.instance == owner && !message.arrived;
            while let Some(message) = self.network.iter().position(mine) {
                self.deliver(message)?;
            }
            self.make_visible(0)?;
            self.make_visible(1)?;
            while !self.replies.is_empty() {
                self.answer(0, false)?;
            }
            self.tick(1_000)?;
            self.run(owner, 2)?;
            if self.is_done() {
                return Ok(());
            }
        }
        Err("OUT-2: with no more faults something is still not acknowledged".to_owned())
    }

    fn is_done(&self) -> bool {
        let task = self.task();
        let read = task.positions().get(&super::INPUT).map_or(0, |position| position.next_offset);
        let recorded = task.durable_floor() == task.next_step() && task.uncommitted_steps() == 0;
        let arrived =
            (0..2).all(|output| self.outputs[output].visible_values().count() == self.expected(output).count());
        read as usize == self.input.len() && recorded && arrived && self.durable == self.changelog.len()
    }
}
