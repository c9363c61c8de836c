/* fuzz_records.c - any bytes as a comma- or tab-separated file: every field must be a string inside the file. */
#include <stdlib.h>
#include <string.h>

#include "data/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const uint8_t *data, size_t size, char separator)
{
    cwi_records r;
    cw_error err;
    uint8_t *copy = cwi_alloc(size, 1);
    if (!copy)
        return;
    if (size > 0)
        memcpy(copy, data, size);
    if (cwi_records_take(&r, "fuzz", copy, size, separator, &err) != CW_OK)
        return;
    const char *first = r.text;
    while (cwi_records_next(&r, &err) == CW_OK) {
        for (size_t i = 0; i < r.fields; i++) {
            if (r.field[i] < first || r.field[i] + strlen(r.field[i]) > r.end)
                abort();
            first = r.field[i];
        }
    }
    cwi_records_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_all(data, size, ',');
    read_all(data, size, '\t');
    return 0;
}
