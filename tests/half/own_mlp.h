/* own_mlp.h - a two-layer perceptron in plain C, in two halves made of callbacks: an engine that is not cutwire's.
 *
 * First half: z = relu(W1 x + b1). Last half: logits = W2 z + b2, softmax cross-entropy. SGD with momentum and L2 penalty
 * as PyTorch has it. Weights are named as the engine's model mlp names them, so that either end may be the engine's.
 */
#ifndef OWN_MLP_H
#define OWN_MLP_H

#include "cutwire/half.h"

typedef struct own_layer {
    size_t in, out, batch, tickets;
    bool last;       /* ends the network: no ReLU, a loss */
    float *weights;  /* out x in, then out biases */
    float *gradient; /* likewise */
    float *momentum; /* likewise */
    int64_t steps;
    const float **x; /* of each open forward */
    float *z;        /* tickets x batch x out: outputs */
    float *d;        /* batch x out: gradient of the loss */
    float lr_momentum, weight_decay;
} own_layer;

/* The half of one layer, `name`.weight and `name`.bias; freed with it by cw_half_destroy. */
cw_half *own_layer_half(const char *name, size_t in, size_t out, size_t batch, size_t tickets, bool last,
                        float momentum, float weight_decay, own_layer **layer);

#endif
