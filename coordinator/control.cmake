# The control half: pure deciders (place, registry, route, enrol), durable membership (store), and the
# actors that use them (control, blobs).
shoal_module(control
    SOURCES place.c registry.c route.c database.c store.c enrol.c blobs.c control.c members.c cluster.c status.c
    DEPENDS net proto shard_arch PkgConfig::SQLITE PkgConfig::JANSSON PkgConfig::SODIUM)
