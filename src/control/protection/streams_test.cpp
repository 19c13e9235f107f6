#include "control/protection/streams.h"

#include "control/test_services.h"
#include "sys/unix_socket.h"

namespace hf::control {
namespace {

using namespace std::chrono_literals;
using launcher::Reply;
using launcher::Request;

constexpr auto kPrompt = 5s;

// Who tells of changes is the thread that brings the launcher's answers: it must not wait for a
// link that does not read.
TEST(Streams, a_link_that_does_not_take_one_holds_up_nobody_and_loses_no_event) {
  VmId vm;
  vm.bytes[0] = std::byte{1};
  TestServices site([vm](const Request&) -> std::optional<Reply> {
    Reply reply;
    reply.units = {{.unit = keeper_unit(vm), .pid = 71, .running = true}};
    return reply;
  });
  site.add_vm(1);
  const SiteId peer = site.protect(vm).peer;
  ASSERT_TRUE(site.services->units->refresh().ok());
  std::filesystem::create_directories(site.services->paths.run_dir(vm));
  auto ship =
      sys::listen_unix(site.services->paths.run_file(vm, "ship.sock"), sys::SocketType::kStream);
  ASSERT_TRUE(ship.ok()) << ship.error().describe();
  std::atomic<bool> asked = false;
  std::atomic<bool> go_on = false;
  Caretakers caretakers(*site.services, [](SiteId) { return false; });
  Streams streams(
      *site.services, caretakers, [](VmId) {},
      [&](SiteId, VmId, sys::UniqueFd) -> Result<peer::StreamId> {
        asked = true;
        EXPECT_TRUE(within(20s, [&] { return go_on.load(); }));
        return peer::StreamId(7);
      });
  streams.start();
  ASSERT_TRUE(within(kPrompt, [&] { return asked.load(); }));
  std::atomic<bool> told = false;
  std::thread tells([&] {
    streams.look(vm);
    streams.on_stream({.id = peer::StreamId(6), .site = peer, .vm = vm});
    streams.on_stream({.id = peer::StreamId(7),
                       .kind = peer::StreamEvent::Kind::kOpened,
                       .site = peer,
                       .vm = vm});
    told = true;
  });
  EXPECT_TRUE(within(kPrompt, [&] { return told.load(); }));
  EXPECT_FALSE(streams.view(vm).open);
  go_on = true;
  tells.join();
  EXPECT_TRUE(within(kPrompt, [&] { return streams.view(vm).open; }));
  streams.stop();
}

}  // namespace
}  // namespace hf::control
