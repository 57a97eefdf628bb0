# Models of the hub, and the store that keeps them: for the command line and for the API.
shoal_module(pull
    SOURCES pull/model_store.c pull/hub.c pull/hub_choose.c pull/pull.c pull/pull_layers.c
    DEPENDS fetch net shard_arch PkgConfig::JANSSON PkgConfig::SODIUM)
