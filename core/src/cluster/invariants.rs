//! What holds of the image after every metadata batch.

use super::{ClusterImage, PartitionImage, ProcessorImage};
use crate::invariant::{Violation, holds};
use crate::limits;
use headwater_protocol::ids::{ClusterId, ProducerId};

impl ClusterImage {
    /// Checks the whole image. Within a batch it may not hold; between batches it does.
    ///
    /// # Errors
    /// The first sentence that does not hold.
    pub fn invariants(&self) -> Result<(), Violation> {
        holds(self.cluster.is_some() == (self.index.0 > 0), "the first record names the cluster")?;
        holds(self.cluster != Some(ClusterId::NONE), "the cluster has an id")?;
        holds(!ProducerId(self.next_producer_id).is_task(), "allotted producer ids stay below those of tasks")?;
        self.broker_invariants()?;
        self.topic_invariants()?;
        self.module_invariants()?;
        self.processor_invariants()
    }

    fn broker_invariants(&self) -> Result<(), Violation> {
        for (id, broker) in self.brokers.iter() {
            holds(broker.id == *id, "a broker is filed under its id")?;
            holds(broker.epoch < self.next_broker_epoch, "a broker's epoch is below the next one")?;
            holds(!broker.directories.is_empty(), "a broker has a data directory")?;
        }
        Ok(())
    }

    fn topic_invariants(&self) -> Result<(), Violation> {
        holds(self.topics.len() == self.topic_names.len(), "each topic has one name")?;
        let mut partitions = 0;
        for (id, topic) in self.topics.iter() {
            holds(topic.id == *id, "a topic is filed under its id")?;
            holds(self.topic_names.get(&topic.name) == Some(id), "a topic's name leads to it")?;
            holds(!topic.partitions.is_empty(), "a topic has a partition")?;
            let internal = self.processor_of_changelog(*id).is_some();
            holds(topic.internal == internal, "internal topics are the changelogs of processors")?;
            partitions += topic.partitions.len();
            topic.partitions.iter().try_for_each(|partition| self.partition_invariants(partition))?;
        }
        holds(partitions == self.partitions, "partitions are counted")?;
        holds(partitions <= limits::PARTITIONS_PER_CLUSTER_MAX, "partitions stay within their limit")
    }

    fn partition_invariants(&self, partition: &PartitionImage) -> Result<(), Violation> {
        holds(!partition.replicas.is_empty(), "a partition has a replica")?;
        let leads = |leader| partition.isr.contains(&leader);
        holds(partition.leader.is_none_or(leads), "a leader is in sync")?;
        for (place, replica) in partition.replicas.iter().enumerate() {
            let before = &partition.replicas[..place];
            holds(!before.iter().any(|other| other.broker == replica.broker), "a broker holds one replica at most")?;
            let broker = self.brokers.get(&replica.broker);
            let there = broker.is_some_and(|broker| broker.directories.contains(&replica.directory));
            holds(there, "a replica lies in a directory of a broker that is there (LOG-10)")?;
        }
        let replicates = |broker| partition.replicas.iter().any(|replica| replica.broker == broker);
        holds(partition.isr.iter().all(|broker| replicates(*broker)), "who is in sync is a replica (REP-11)")
    }

    fn module_invariants(&self) -> Result<(), Violation> {
        for (name, versions) in self.modules.iter() {
            holds(!versions.is_empty(), "a module's name has a version")?;
            for (place, module) in versions.iter().enumerate() {
                holds(module.name == name.as_ref(), "a module is filed under its name")?;
                let taken = versions[..place].iter().any(|other| other.version == module.version);
                holds(!taken, "a version means one module")?;
            }
        }
        Ok(())
    }

    fn processor_invariants(&self) -> Result<(), Violation> {
        holds(self.processors.len() == self.processor_names.len(), "each processor has one name")?;
        for (number, processor) in self.processors.iter() {
            holds(processor.number == *number, "a processor is filed under its number")?;
            holds(*number < self.next_processor, "a processor's number is not given out again")?;
            holds(self.processor_names.get(&processor.name) == Some(number), "a processor's name leads to it")?;
            self.deployment_invariants(processor)?;
        }
        Ok(())
    }

    fn deployment_invariants(&self, processor: &ProcessorImage) -> Result<(), Violation> {
        let module = self.modules().any(|module| module.reference() == processor.module);
        holds(module, "a processor's module is there")?;
        holds(!processor.inputs.is_empty(), "a processor has an input")?;
        holds(processor.inputs.len() == processor.from.len(), "each input has its start offsets")?;
        let tasks = processor.from.first().map_or(0, Vec::len);
        for (input, from) in processor.inputs.iter().zip(&processor.from) {
            let count = self.topic(*input).map(|topic| topic.partitions.len());
            holds(count == Some(tasks) && from.len() == tasks, "inputs are there and copartitioned")?;
            holds(!processor.outputs.contains(input), "no output is an input")?;
        }
        let outputs = processor.outputs.iter().all(|output| self.topic(*output).is_some());
        holds(outputs, "outputs are there")?;
        let dead_letters = processor.errors.dead_letters();
        holds(dead_letters.is_none_or(|topic| self.topic(topic).is_some()), "the dead letter topic is there")?;
        let changelog = self.topic(processor.changelog);
        let fits = changelog.is_some_and(|changelog| changelog.internal && changelog.partitions.len() == tasks);
        holds(fits, "the changelog is internal and has a partition for each task")
    }
}
