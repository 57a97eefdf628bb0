add_library(http_client STATIC http_client.c)
target_link_libraries(http_client PUBLIC house base PkgConfig::CURL PkgConfig::JANSSON)
add_library(api_rig STATIC fake.c api_rig.c)
target_link_libraries(api_rig PUBLIC api http_client)
foreach(noun api api_stream api_keys api_info openapi page ollama ollama_request embeddings)
    shoal_test(test_${noun} SOURCES test_${noun}.c DEPENDS api_rig LABELS "unit;threads")
endforeach()
shoal_test(test_coordinator SOURCES test_coordinator.c DEPENDS api node http_client LABELS "unit;threads;cluster")
add_executable(rig_server rig_server.c)
target_link_libraries(rig_server PRIVATE api_rig)
add_test(NAME openapi_check
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/openapi_check.py $<TARGET_FILE:rig_server>
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(openapi_check PROPERTIES LABELS "unit" TIMEOUT 60)
