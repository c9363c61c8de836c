/* tensor.c - (being written) */
typedef int cwi_tensor_unit;
