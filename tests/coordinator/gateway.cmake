foreach(noun schedule session)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS gateway)
endforeach()
