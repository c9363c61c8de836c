/* fuzz_classes.c - any bytes as the names of a client's classes, which come in its READY: what is taken must be given
 * back as the same text, and be found and mapped. */
#include <assert.h>
#include <string.h>

#include "config/classes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const cwi_classes *c, const uint8_t *data, size_t size)
{
    char *text, *list = cwi_classes_list(c);
    cw_status status = cwi_classes_format(c, &text, NULL);
    assert(status == CW_OK && strlen(text) == size && (size == 0 || !memcmp(text, data, size)));
    (void)status;
    (void)data;
    (void)size;
    for (size_t i = 0; list && list[i]; i++)
        assert((uint8_t)list[i] >= 0x20);
    cwi_free(text);
    cwi_free(list);
}

/* Against a run that has every other of the names, in reverse. */
static void check_map(const cwi_classes *c)
{
    enum { MOST = 64 };
    const char *names[MOST];
    size_t count = 0;
    for (size_t i = c->count; i-- > 0 && count < MOST;)
        if (i % 2 == 0)
            names[count++] = c->names[i];
    cwi_classes run;
    cw_status status = cwi_classes_copy(names, count, &run, NULL);
    assert(status == CW_OK && cwi_classes_unknown(&run, c) == c->count - count);
    status = cwi_classes_add(&run, c, NULL);
    assert(status == CW_OK && run.count == c->count && cwi_classes_unknown(&run, c) == 0);
    int32_t *map;
    status = cwi_classes_map(&run, c, &map, NULL);
    assert(status == CW_OK);
    (void)status;
    for (size_t i = 0; map && i < c->count; i++)
        assert(!strcmp(run.names[map[i]], c->names[i]));
    cwi_free(map);
    cwi_classes_free(&run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cwi_classes c;
    cw_error err = {.message = ""};
    if (cwi_classes_parse(data, size, 1000, &c, &err) != CW_OK) {
        assert(err.message[0] && !c.count);
        return 0;
    }
    check_text(&c, data, size);
    check_map(&c);
    cwi_classes_free(&c);
    return 0;
}
