foreach(noun schedule session pace)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS gateway)
endforeach()

# The control half is played by fake_route.c, so that the real one is not linked.
shoal_test(test_engine SOURCES test_engine.c fake_route.c DEPENDS gateway LABELS "unit;threads")

shoal_test(test_guide SOURCES test_guide.c fake_route.c DEPENDS gateway)
