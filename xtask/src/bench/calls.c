/* Nothing but calls: with a processor model that has pointer authentication, each one is signed and checked. */
#include <stdio.h>
#include <stdlib.h>

static __attribute__((noinline)) unsigned calls(unsigned depth) {
    return depth < 2 ? depth : calls(depth - 1) + calls(depth - 2);
}

int main(int count, char **words) {
    unsigned depth = count > 1 ? (unsigned)strtoul(words[1], NULL, 10) : 32;
    printf("%u\n", calls(depth));
    return 0;
}
