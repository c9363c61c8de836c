/* cutwire/version.h - which version this is: of the header at compile time, of the library at run time.
 *
 * The numbers are those of the project in CMakeLists.txt; a test holds the two together.
 * Thread-safety: pure.
 */
#ifndef CUTWIRE_VERSION_H
#define CUTWIRE_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

#define CW_VERSION_MAJOR 0
#define CW_VERSION_MINOR 1
#define CW_VERSION_PATCH 0
#define CW_VERSION       "0.1.0"
/* For comparisons in #if: 0.1.0 is 100, 1.2.3 is 10203. */
#define CW_VERSION_NUMBER (CW_VERSION_MAJOR * 10000 + CW_VERSION_MINOR * 100 + CW_VERSION_PATCH)

/* CW_VERSION of the library that the program runs with, which may be another than the one it was compiled for. Static
 * storage, never NULL. */
const char *cw_version(void);

#ifdef __cplusplus
}
#endif
#endif
