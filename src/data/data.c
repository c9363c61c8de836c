/* data.c - (being written) */
typedef int cwi_data_unit;
