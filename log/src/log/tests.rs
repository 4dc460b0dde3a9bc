mod append;
mod durability;
mod faults;
mod quarantine;
mod recovery;
mod snapshots;
mod trim;
mod versions;
