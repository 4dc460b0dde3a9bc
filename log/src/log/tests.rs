mod append;
mod durability;
mod faults;
mod recovery;
mod snapshots;
mod trim;
mod versions;
