"""Files of others, read and written: arrays, frames and records in and out."""
