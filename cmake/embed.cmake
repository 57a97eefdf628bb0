# cmake -DIN=file -DOUT=file.c -DNAME=symbol -P embed.cmake: the file's bytes as `const unsigned char NAME[]`,
# with a NUL behind them, and `const size_t NAME_len`.
file(READ ${IN} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR length "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "((0x..,){24})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "/* Made of ${IN} by cmake/embed.cmake. */\n#include <stddef.h>\n
const unsigned char ${NAME}[] = {\n${bytes}0x00\n};\nconst size_t ${NAME}_len = ${length};\n")
