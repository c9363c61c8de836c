/* compress.c - a tensor to a payload and back: cc compress.c $(pkg-config --cflags --libs cutwire-codec) */
#include <cutwire/codec.h>
#include <stdio.h>

enum { ELEMENTS = 4 * 64 * 16 * 16 };
static float map[ELEMENTS], back[ELEMENTS]; /* what a layer put out for four images, and what the other side gets */
static unsigned char payload[4 * ELEMENTS]; /* cw_codec_bound() tells how much is enough */

int main(void)
{
    for (int i = 0; i < ELEMENTS; i++)
        map[i] = i % 3 ? 0 : (float)(i % 1000) * 0.001f;
    const cw_shape shape = cw_shape_of(4, (int64_t[]){4, 64, 16, 16});
    cw_tensor x = cw_tensor_view(CW_F32, &shape, map), y = cw_tensor_view(CW_F32, &shape, back);
    cw_codec *codec = NULL;
    size_t size = 0;
    cw_error err;
    if (cw_codec_create("ms:r=0.99,b=2", &codec, &err) != CW_OK ||
        cw_encode(codec, &x, NULL, payload, sizeof payload, &size, &err) != CW_OK ||
        cw_decode(payload, size, &y, NULL, &err) != CW_OK) {
        fprintf(stderr, "compress: %s\n", err.message);
        return 1;
    }
    printf("%zu bytes -> %zu bytes, %.1f times smaller\n", sizeof map, size, (double)sizeof map / (double)size);
    printf("element 300: %.3f -> %.3f\n", map[300], back[300]);
    cw_codec_destroy(&codec);
    return 0;
}
