# The control half: pure deciders (place, registry, route), durable membership, and the actors that use them.
shoal_module(control
    SOURCES place.c
    DEPENDS proto shard_arch)
