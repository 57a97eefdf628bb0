foreach(noun place)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS control)
endforeach()
