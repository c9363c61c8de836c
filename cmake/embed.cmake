# cmake -DIN=FILE -DOUT=FILE.c -DNAME=NAME -P embed.cmake: a file as an array of bytes, for a program to hold.
file(READ ${IN} bytes HEX)
file(SIZE ${IN} size)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include \"${NAME}.h\"\n\nconst unsigned char ${NAME}_html[] = {\n${bytes}};\nconst unsigned long ${NAME}_html_size = ${size};\n")
