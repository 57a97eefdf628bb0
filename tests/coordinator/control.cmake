foreach(noun place registry route enrol)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS control)
endforeach()
