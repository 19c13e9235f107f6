// Members that sign whatever they like, against one vault's chain and judge.
#include "base/fuzz_input.h"
#include "title/testing/hostile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hf::title::testing::Hostile(hf::fuzz_input(data, size)).run();
  return 0;
}
