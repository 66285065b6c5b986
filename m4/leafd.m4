# SPDX-License-Identifier: Apache-2.0

# LEAFD_PKG(VARIABLE, CONDITION, DEBIAN-PACKAGE): a library that must be there; the error names its package.
AC_DEFUN([LEAFD_PKG], [
    PKG_CHECK_MODULES([$1], [$2], [],
        [AC_MSG_ERROR([$2 is missing; on Debian: apt-get install $3])])
])

# LEAFD_PKG_ANY(VARIABLE, CONDITION, OTHER-CONDITION, DEBIAN-PACKAGE): one library known by two names.
AC_DEFUN([LEAFD_PKG_ANY], [
    PKG_CHECK_MODULES([$1], [$2], [],
        [PKG_CHECK_MODULES([$1], [$3], [],
            [AC_MSG_ERROR([$2 is missing; on Debian: apt-get install $4])])])
])

# --with-sanitizer=address,undefined or =thread: into SANITIZER_FLAGS, for compiler and linker alike.
AC_DEFUN([LEAFD_SANITIZER], [
    AC_ARG_WITH([sanitizer],
        [AS_HELP_STRING([--with-sanitizer=LIST], [build with these sanitizers: address,undefined or thread])],
        [], [with_sanitizer=no])
    SANITIZER_FLAGS=
    AS_IF([test "x$with_sanitizer" != xno], [
        SANITIZER_FLAGS="-fsanitize=$with_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
        saved_CFLAGS=$CFLAGS
        CFLAGS="$CFLAGS $SANITIZER_FLAGS"
        AC_LINK_IFELSE([AC_LANG_PROGRAM()], [],
            [AC_MSG_ERROR([$CC cannot build with -fsanitize=$with_sanitizer])])
        CFLAGS=$saved_CFLAGS
    ])
    AC_SUBST([SANITIZER_FLAGS])
    AC_SUBST([SANITIZER], [$with_sanitizer])
])

# Warnings are always asked for; they stop the build with --enable-werror only, as CI does.
AC_DEFUN([LEAFD_WARNINGS], [
    AC_ARG_ENABLE([werror],
        [AS_HELP_STRING([--enable-werror], [a warning stops the build])], [], [enable_werror=no])
    WARNING_FLAGS="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Wundef"
    AS_IF([test "x$enable_werror" = xyes], [WARNING_FLAGS="$WARNING_FLAGS -Werror"])
    AC_SUBST([WARNING_FLAGS])
])

# --enable-fuzzer: link the fuzz targets with libFuzzer (clang only). Without it they replay a corpus.
AC_DEFUN([LEAFD_FUZZER], [
    AC_ARG_ENABLE([fuzzer],
        [AS_HELP_STRING([--enable-fuzzer], [fuzz targets with libFuzzer (needs clang)])],
        [], [enable_fuzzer=no])
    FUZZER_FLAGS=
    FUZZER_LINK=
    AS_IF([test "x$enable_fuzzer" = xyes], [
        FUZZER_FLAGS="-fsanitize=fuzzer-no-link"
        FUZZER_LINK="-fsanitize=fuzzer"
    ])
    AC_SUBST([FUZZER_FLAGS])
    AC_SUBST([FUZZER_LINK])
    AM_CONDITIONAL([FUZZER], [test "x$enable_fuzzer" = xyes])
])

# The interpreter of the system tests: PYTHON if given, else the first of Debian's own and the PATH's
# that has what the tests import. None is no error: make check says so.
AC_DEFUN([LEAFD_TEST_PYTHON], [
    AC_ARG_VAR([PYTHON], [Python 3 with pytest, msgpack and cryptography, for the system tests])
    AC_MSG_CHECKING([for Python 3 with pytest, msgpack and cryptography])
    TEST_PYTHON=
    for candidate in $PYTHON /usr/bin/python3 python3; do
        AS_IF([$candidate -c 'import pytest, msgpack, cryptography' >/dev/null 2>&1],
            [TEST_PYTHON=$candidate; break])
    done
    AS_IF([test -n "$TEST_PYTHON"], [AC_MSG_RESULT([$TEST_PYTHON])],
        [AC_MSG_RESULT([none; on Debian: apt-get install python3-pytest python3-msgpack python3-cryptography])])
    AC_SUBST([TEST_PYTHON])
    AM_CONDITIONAL([HAVE_TEST_PYTHON], [test -n "$TEST_PYTHON"])
])
