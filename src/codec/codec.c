/* codec.c - (being written) */
typedef int cwi_codec_unit;
