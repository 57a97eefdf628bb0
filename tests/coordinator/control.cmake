foreach(noun place registry route enrol)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS control)
endforeach()
shoal_test(test_control_half SOURCES test_control.c fake_node.c
    DEPENDS control shard_files PkgConfig::ZMQ PkgConfig::JANSSON PkgConfig::SODIUM LABELS "unit;threads")
