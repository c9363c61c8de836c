/* net.c - (being written) */
typedef int cwi_net_unit;
