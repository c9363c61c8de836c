/* train.c - (being written) */
typedef int cwi_train_unit;
