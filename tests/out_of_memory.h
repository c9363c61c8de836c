/* out_of_memory.h - a piece of code again and again, each time with another of its allocations failing, until all work:
 *
 *     for (oom_scan scan = {0}; !scan.done;) {
 *         oom_begin(&scan);
 *         cw_status status = cw_thing_create(&thing);
 *         oom_end(&scan, status);
 *         cw_thing_destroy(&thing);
 *     }
 *
 * That nothing leaks the sanitizers look for. */
#ifndef CWI_TEST_OUT_OF_MEMORY_H
#define CWI_TEST_OUT_OF_MEMORY_H

#include "base/base.h"
#include "test.h"

typedef struct oom_scan {
    int nth, left; /* the allocation that fails, and how many work until then */
    bool done;
} oom_scan;

static inline bool oom_is_due(void *ctx, size_t bytes)
{
    (void)bytes;
    return ((oom_scan *)ctx)->left-- == 0;
}

static inline void oom_begin(oom_scan *scan)
{
    scan->left = scan->nth++;
    assert_true(scan->nth < 2000);
    cwi_alloc_set_fault(oom_is_due, scan);
}

/* Takes what came of it, which is CW_ERR_NO_MEMORY unless all worked. */
static inline void oom_end(oom_scan *scan, cw_status status)
{
    cwi_alloc_set_fault(NULL, NULL);
    scan->done = status == CW_OK;
    if (!scan->done)
        assert_int_equal(status, CW_ERR_NO_MEMORY);
}

#endif
