shoal_module(gateway SOURCES schedule.c session.c DEPENDS proto)
