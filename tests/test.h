/* test.h - what every test program includes: cmocka with the headers it wants, and a few helpers. */
#ifndef CWI_TEST_H
#define CWI_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cutwire/status.h"

/* Fails with the library's own sentence. `call` may use a cw_error named err. */
#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        cw_status test_status = (call);                                                                                \
        if (test_status != CW_OK)                                                                                      \
            fail_msg("%s: %s", #call, cw_status_name(test_status));                                                    \
    } while (0)

#define assert_ok_err(call, err)                                                                                       \
    do {                                                                                                               \
        cw_status test_status = (call);                                                                                \
        if (test_status != CW_OK)                                                                                      \
            fail_msg("%s: %s: %s", #call, cw_status_name(test_status), (err).message);                                 \
    } while (0)

#define assert_status(call, expected)                                                                                  \
    do {                                                                                                               \
        cw_status test_status = (call);                                                                                \
        if (test_status != (expected))                                                                                 \
            fail_msg("%s: got %s, expected %s", #call, cw_status_name(test_status), cw_status_name(expected));         \
    } while (0)

#endif
