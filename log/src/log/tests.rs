mod append;
mod durability;
mod faults;
mod recovery;
mod trim;
mod versions;
