/* nn.c - (being written) */
typedef int cwi_nn_unit;
