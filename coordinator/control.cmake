# The control half: pure deciders (place, registry, route, enrol), durable membership (store), and the
# actors that use them.
shoal_module(control
    SOURCES place.c registry.c route.c store.c enrol.c
    DEPENDS net proto shard_arch PkgConfig::SQLITE PkgConfig::SODIUM)
