// Any bytes from a client: no crash, no assertion, bounded memory. The first byte chooses how the
// rest is cut into receives, as a stream gives no promise about that.
#include <algorithm>

#include "base/fuzz_input.h"
#include "volume/memory_volume.h"
#include "volume/nbd_session.h"
#include "volume/testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  volume::testing::ManualScheduler scheduler;
  volume::MemoryVolume memory(scheduler, 1 << 20);
  volume::NbdExport offered{.name = "disk", .description = "", .volume = &memory};
  volume::testing::SessionOwner owner;
  volume::NbdSession session(owner, offered);
  size_t cut = size == 0 ? 1 : size_t{data[0]} + 1;
  ByteSpan input = hf::fuzz_input(data, size);
  while (!session.finished()) {
    MutableByteSpan space = session.input();
    size_t count = std::min({space.size(), input.size(), cut});
    if (count > 0) {
      std::ranges::copy(input.first(count), space.begin());
      input = input.subspan(count);
      session.received(count);
    }
    scheduler.run_all();
    size_t sent = volume::testing::take_output(session).size();
    if (count == 0 && sent == 0) break;
  }
  session.abandon();
  scheduler.run_all();
  return 0;
}
