// Against a real vault: src/vault_server/server_test.cpp.
#include "launcher/vault_binding.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "launcher/test_site.h"
#include "sys/unix_socket.h"

namespace hf::launcher {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

class Binding : public ::testing::Test {
 protected:
  std::string socket_path() const { return site_.file("vault-launcher.sock"); }
  std::vector<BoundKeeper> one() const { return {{.vm = test_vm(1), .uid = 7, .keeper = true}}; }
  TestSite site_;
  VaultBinding binding_{site_.file("vault-launcher.sock")};
};

void expect_all_parts(const Error& error) {
  EXPECT_FALSE(error.cause.empty());
  EXPECT_FALSE(error.effect.empty()) << error.cause;
  EXPECT_FALSE(error.mend.empty()) << error.cause;
}

TEST_F(Binding, a_vault_that_hangs_holds_up_a_start_for_a_second_and_an_end_hardly_at_all) {
  const auto mute = std::move(sys::listen_unix(socket_path(), sys::SocketType::kStream)).value();
  const auto before = Clock::now();
  const Error error = binding_.tell(one()).error();
  EXPECT_EQ(error.code, ErrorCode::kTimeout);
  expect_all_parts(error);
  EXPECT_LT(Clock::now() - before, seconds(2));
  // Fifty keepers end: none of them waits again for a vault that did not answer just now.
  const auto ends = Clock::now();
  for (int i = 0; i < 50; ++i) binding_.tell_of_an_end({});
  EXPECT_LT(Clock::now() - ends, std::chrono::milliseconds(500));
}

TEST_F(Binding, a_vault_that_is_not_there_or_says_nothing_sensible_is_named) {
  const Error absent = binding_.tell(one()).error();
  EXPECT_EQ(absent.code, ErrorCode::kUnavailable);
  expect_all_parts(absent);

  const auto listener =
      std::move(sys::listen_unix(socket_path(), sys::SocketType::kStream)).value();
  std::jthread babbler([&] {
    const sys::UniqueFd fd(::accept(listener.get(), nullptr, nullptr));
    EXPECT_EQ(::send(fd.get(), "HTTP/1.1 200 OK\r\n\r\n", 19, MSG_NOSIGNAL), 19);
  });
  const Error babble = binding_.tell(one()).error();
  EXPECT_EQ(babble.code, ErrorCode::kCorrupt);
  expect_all_parts(babble);
}

TEST_F(Binding, a_vault_that_starts_gets_the_list_in_a_file_that_nobody_changes) {
  const sys::UniqueFd file = std::move(binding_.for_start(one())).value();
  const Bytes list = *sys::read_all(file.get(), 4096);
  EXPECT_EQ(to_hex(list),
            "0100000000000000"
            "01000000"
            "00000000000000000000000000000001"
            "07000000"
            "01");
  EXPECT_NE(::fcntl(file.get(), F_GET_SEALS) & F_SEAL_WRITE, 0);
  // The next list counts on.
  EXPECT_EQ(to_hex(*sys::read_all(binding_.for_start({})->get(), 4096)),
            "0200000000000000"
            "00000000");
}

}  // namespace
}  // namespace hf::launcher
