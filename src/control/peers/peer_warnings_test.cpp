// What others cause may not fill this site's log.
#include "control/test_services.h"

namespace hf::control {
namespace {

constexpr size_t kLinesMax = 30;
constexpr int kTimes = 1'000;

size_t lines_with(const std::string& text, std::string_view word) {
  size_t lines = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++lines;
  return lines;
}

FakeLauncher::Answer silent() {
  return [](const launcher::Request&) { return std::optional(launcher::Reply{}); };
}

// A stranger with a token that nobody made.
class Stranger final : public peer::PairingSession {
 public:
  bool incoming() const override { return true; }
  const Digest& exporter() const override { return exporter_; }
  const std::vector<crypto::Certificate>& peer_chain() const override { return chain_; }
  const std::string& peer_address() const override { return address_; }
  Status send(const sys::JsonObject&) override { return {}; }
  Result<sys::JsonObject> receive(peer::Millis) override {
    return sys::JsonObject{{"token_hash", std::string(64, '0')}, {"identity", "\x1b[2J"}};
  }

 private:
  Digest exporter_;
  std::vector<crypto::Certificate> chain_;
  std::string address_ = "198.51.100.7:4000";
};

TEST(PeerWarnings, strangers_without_a_token_fill_no_log) {
  TestServices site(silent());
  testing::internal::CaptureStdout();
  for (int i = 0; i < kTimes; ++i) {
    Stranger stranger;
    site.services->peers->serve_pairing(stranger);
  }
  const std::string log = testing::internal::GetCapturedStdout();
  const size_t lines = lines_with(log, "198.51.100.7");
  EXPECT_GE(lines, 1u) << log;
  EXPECT_LE(lines, kLinesMax);
}

TEST(PeerWarnings, a_paired_site_that_asks_nonsense_fills_no_log) {
  TestServices site(silent());
  const SiteId peer = site.protect(site.add_vm(1).id).peer;
  testing::internal::CaptureStdout();
  for (int i = 0; i < kTimes; ++i) {
    EXPECT_FALSE(site.services->peers->answer(peer, as_bytes("{\"op\":\"\\u001b[2J\"}")).ok());
  }
  const std::string log = testing::internal::GetCapturedStdout();
  const size_t lines = lines_with(log, "a request of site");
  EXPECT_GE(lines, 1u) << log;
  EXPECT_LE(lines, kLinesMax);
  EXPECT_EQ(log.find('\x1b'), std::string::npos) << "nor does it obey a terminal's words";
}

}  // namespace
}  // namespace hf::control
