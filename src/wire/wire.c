/* wire.c - (being written) */
typedef int cwi_wire_unit;
