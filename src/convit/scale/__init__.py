"""Large jobs on one machine or many: inputs divided into shards, each with one file of results."""
