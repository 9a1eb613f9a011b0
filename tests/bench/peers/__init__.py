"""The same work done by others: decode JSON, keep the last 50 items of each user in RocksDB with a changelog."""
