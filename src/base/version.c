/* version.c - the version that this library was built as. */
#include "cutwire/version.h"

const char *cw_version(void)
{
    return CW_VERSION;
}
