# The gateway half: sequences in, tokens out.  It knows the control half by control.h alone.
shoal_module(gateway
    SOURCES schedule.c session.c pace.c guide.c request.c flight.c dials.c engine.c
    DEPENDS net proto text shard_arch PkgConfig::ZMQ)
target_link_libraries(gateway PUBLIC $<TARGET_NAME_IF_EXISTS:control>)
