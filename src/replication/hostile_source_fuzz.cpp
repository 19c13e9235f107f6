// A source that signs what no honest journal says (test_hostile_source.h), led by the input.
#include "replication/test_hostile_source.h"

namespace {

struct InputChoices final : hf::replication::Choices {
  explicit InputChoices(std::span<const uint8_t> input_in) : input(input_in) {}
  // Two bytes a choice; the end of the input is all zeroes.
  uint64_t below(uint64_t limit) override {
    uint64_t value = 0;
    for (int i = 0; i < 2 && at < input.size(); ++i) value = value << 8 | input[at++];
    return value % limit;
  }
  std::span<const uint8_t> input;
  size_t at = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  InputChoices choices(std::span(data, size));
  hf::replication::HostileSource source(choices);
  while (choices.at < size) source.run(1);
  source.promote();
  return 0;
}
