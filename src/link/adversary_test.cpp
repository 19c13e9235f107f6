// Those who mean harm: a paired site that breaks every rule (it has a valid certificate), and
// strangers in numbers. The link lives, its memory has a bound, and other sites notice nothing.
#include <sys/resource.h>

#include <algorithm>
#include <deque>
#include <future>

#include "base/sanitizer.h"
#include "link/testing.h"
#include "link/testing_tls.h"
#include "peer/link_protocol.h"

namespace hf::link::testing {
namespace {

using peer::FrameType;

constexpr size_t kOwnMemoryMaxKib = 160 << 10;

class Attacked : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::signal(SIGPIPE, SIG_IGN);
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 16'384);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  // a_ is attacked by "evil", which is paired with it; b_ is honest.
  void SetUp() override {
    peer::PeerSettings evil{
        .site = evil_.id, .name = "evil", .ca_pem = evil_.ca.to_pem(), .address = "127.0.0.1:1"};
    a_.run({b_.as_peer(), evil});
    b_.run({a_.as_peer()});
    ASSERT_TRUE(asks_pass());
  }
  void TearDown() override {
    EXPECT_TRUE(a_.process.alive()) << a_.process.read_log();
    EXPECT_TRUE(asks_pass());
    if (!under_sanitizer()) EXPECT_LT(a_.process.own_memory_kib(), kOwnMemoryMaxKib);
  }
  bool asks_pass() {
    const Result<Bytes> there = a_.client->call(b_.authority.id, Bytes(10), 5s);
    const Result<Bytes> back = b_.client->call(a_.authority.id, Bytes(10), 5s);
    EXPECT_TRUE(there.ok()) << there.error().describe();
    EXPECT_TRUE(back.ok()) << back.error().describe();
    return there.ok() && back.ok();
  }
  std::unique_ptr<Outsider> evil() {
    auto outsider = std::make_unique<Outsider>(evil_, a_.process.address());
    EXPECT_TRUE(outsider->connected());
    EXPECT_TRUE(outsider->hello());
    EXPECT_TRUE(outsider->receive_type(FrameType::kHello).has_value());
    return outsider;
  }
  Bytes raw(uint8_t type, uint8_t flags, uint32_t length, uint64_t id, size_t body) {
    Bytes bytes(peer::kFrameHeaderSize + body);
    bytes[0] = std::byte{type};
    bytes[1] = std::byte{flags};
    store_le<uint32_t>(bytes.data() + 4, length);
    store_le<uint64_t>(bytes.data() + 8, id);
    return bytes;
  }

  Authority evil_{66};
  Site a_{1};
  Site b_{2};
};

TEST_F(Attacked, frames_that_break_the_rules_end_that_connection_with_a_reason) {
  const Bytes vm(16, std::byte{7});
  const Bytes text = pattern(100, 1);
  const std::pair<const char*, Bytes> bad[] = {
      {"unknown type", raw(99, 0, 0, 0, 0)},
      {"type zero", raw(0, 0, 0, 0, 0)},
      {"length", raw(8, 0, 0xffffffff, 1, 0)},
      {"flags", raw(8, 0x80, 1, 1, 1)},
      {"second hello", peer::encode_hello()},
      {"stream with an even id", peer::encode_frame(FrameType::kOpen, 2, vm)},
      {"question with an even id",
       peer::encode_ask(2, {.total = 1, .limit_ms = 10, .part = Bytes(1)})},
      {"question without end",
       peer::encode_ask(1, {.total = 100, .limit_ms = 10, .part = Bytes(200)})},
      {"question too long",
       peer::encode_ask(1, {.total = 1 << 30, .limit_ms = 10, .part = Bytes(10)})},
      {"question for ever",
       peer::encode_ask(1, {.total = 1, .limit_ms = 1u << 31, .part = Bytes(1)})},
      {"data for no stream", peer::encode_frame(FrameType::kData, 1, text)},
      {"data for a stream of ours", peer::encode_frame(FrameType::kData, 2, text)},
      {"credit for no stream", peer::encode_frame(FrameType::kCredit, 5, Bytes(4, std::byte{1}))},
      {"acceptance of nothing", peer::encode_frame(FrameType::kAccept, 7, {})},
      {"a first contact's message", peer::encode_frame(FrameType::kPair, 0, text)},
      {"text", pattern(2000, 9)},
  };
  for (const auto& [what, bytes] : bad) {
    auto outsider = evil();
    ASSERT_TRUE(outsider->send(bytes)) << what;
    EXPECT_TRUE(outsider->is_dropped()) << what;
  }
  auto outsider = evil();
  ASSERT_TRUE(outsider->send(peer::encode_frame(FrameType::kOpen, 2, vm)));
  const auto goodbye = outsider->receive_type(FrameType::kGoodbye);
  ASSERT_TRUE(goodbye.has_value());
  EXPECT_NE(peer::decode_error_body(goodbye->body).error.cause.find("id"), std::string::npos);
}

TEST_F(Attacked, a_stream_that_is_used_wrongly_ends_that_connection) {
  const std::pair<const char*, std::function<void(Outsider&)>> bad[] = {
      {"data before the acceptance",
       [&](Outsider& evil) {
         a_.refuse_stream = [](const peer::StreamAsk&) {
           std::this_thread::sleep_for(300ms);
           return std::nullopt;
         };
         evil.send(peer::encode_frame(FrameType::kOpen, 1, test_vm(1).span()));
         evil.send(peer::encode_frame(FrameType::kData, 1, Bytes(10)));
       }},
      {"the same id twice",
       [&](Outsider& evil) {
         evil.send(peer::encode_frame(FrameType::kOpen, 5, test_vm(1).span()));
         evil.send(peer::encode_frame(FrameType::kOpen, 5, test_vm(1).span()));
       }},
      {"ids that go back",
       [&](Outsider& evil) {
         evil.send(peer::encode_frame(FrameType::kOpen, 5, test_vm(1).span()));
         evil.send(peer::encode_frame(FrameType::kOpen, 3, test_vm(1).span()));
       }},
      {"more than was granted",
       [&](Outsider& evil) {
         evil.send(peer::encode_frame(FrameType::kOpen, 1, test_vm(1).span()));
         evil.receive_type(FrameType::kAccept);
         // Nobody reads at the keeper's end: its socket and one window, and no more.
         for (int i = 0; i < 200; ++i) {
           if (!evil.send(peer::encode_frame(FrameType::kData, 1, Bytes(peer::kFrameBodyMax)), 1s))
             return;
         }
       }},
      {"data after the end",
       [&](Outsider& evil) {
         evil.send(peer::encode_frame(FrameType::kOpen, 1, test_vm(1).span()));
         evil.receive_type(FrameType::kAccept);
         evil.send(peer::encode_frame(FrameType::kFin, 1, {}));
         evil.send(peer::encode_frame(FrameType::kData, 1, Bytes(10)));
       }},
      {"credit without end",
       [&](Outsider& evil) {
         evil.send(peer::encode_frame(FrameType::kOpen, 1, test_vm(1).span()));
         evil.receive_type(FrameType::kAccept);
         Bytes credit(4, std::byte{0xff});
         evil.send(peer::encode_frame(FrameType::kCredit, 1, credit));
         evil.send(peer::encode_frame(FrameType::kCredit, 1, credit));
       }},
  };
  for (const auto& [what, act] : bad) {
    a_.refuse_stream = nullptr;
    auto outsider = evil();
    act(*outsider);
    EXPECT_TRUE(outsider->is_dropped()) << what;
    static_cast<void>(a_.taken(test_vm(1)));
  }
}

TEST_F(Attacked, streams_without_number_are_refused_and_cost_little) {
  auto outsider = evil();
  std::thread writer([&] {
    Bytes opens;
    for (uint64_t i = 0; i < 5000; ++i) {
      const Bytes frame =
          peer::encode_frame(FrameType::kOpen, 2 * i + 1, test_vm(static_cast<uint8_t>(i)).span());
      opens.insert(opens.end(), frame.begin(), frame.end());
    }
    outsider->send(opens, 20s);
  });
  writer.join();
  size_t accepted = 0;
  size_t refused = 0;
  while (accepted + refused < 5000) {
    const auto got = outsider->receive(10s);
    if (!got) break;
    if (got->header.type == FrameType::kAccept) ++accepted;
    if (got->header.type == FrameType::kRefuse) ++refused;
  }
  EXPECT_EQ(accepted + refused, 5000U);
  EXPECT_LE(accepted, peer::kStreamsPerPeerMax);
  EXPECT_GE(accepted, 100U);
  EXPECT_LT(a_.process.descriptors(), peer::kStreamsPerPeerMax + 100);
  outsider.reset();
  for (int i = 0; i < 100 && a_.process.descriptors() > 40; ++i) std::this_thread::sleep_for(50ms);
  EXPECT_LE(a_.process.descriptors(), 40U) << "all is given back";
}

TEST_F(Attacked, questions_without_number_are_refused_and_half_ones_held_in_bounds) {
  std::atomic<bool> go = false;
  a_.on_request = [&](SiteId site, ByteSpan, Millis) -> Result<Bytes> {
    while (site == evil_.id && !go) std::this_thread::sleep_for(1ms);
    return Bytes();
  };
  auto outsider = evil();
  Bytes asks;
  for (uint64_t i = 0; i < 3000; ++i) {
    const Bytes frame = peer::encode_ask(
        2 * i + 1, {.total = peer::kRequestMax, .limit_ms = 5000, .part = Bytes(1000)});
    asks.insert(asks.end(), frame.begin(), frame.end());
  }
  std::thread writer([&] { outsider->send(asks, 20s); });
  writer.join();
  size_t refused = 0;
  while (refused < 3000 - peer::kQuestionsPerPeerMax) {
    const auto got = outsider->receive_type(FrameType::kAnswer);
    if (!got) break;
    EXPECT_EQ(got->header.flags, peer::kFlagError | peer::kFlagUnheard);
    ++refused;
  }
  EXPECT_EQ(refused, 3000 - peer::kQuestionsPerPeerMax);
  EXPECT_TRUE(asks_pass()) << "the honest site has places of its own";
  go = true;
}

TEST_F(Attacked, who_asks_and_never_reads_is_not_read_any_more) {
  a_.on_request = [](SiteId, ByteSpan, Millis) -> Result<Bytes> { return pattern(16'000, 1); };
  auto outsider = evil();
  // Each gets an answer or a refusal, either of them longer than it is. What is owed piles up to
  // its bound and in the kernel's buffers; then these wait there too.
  size_t sent = 0;
  bool taken = true;
  for (uint64_t id = 1; taken && sent < size_t{64} << 20;) {
    Bytes asks;
    for (int i = 0; i < 50; ++i, id += 2) {
      const Bytes frame = peer::encode_ask(id, {.total = 10, .limit_ms = 5000, .part = Bytes(10)});
      asks.insert(asks.end(), frame.begin(), frame.end());
    }
    taken = outsider->send(asks, 2s);
    if (taken) sent += asks.size();
  }
  EXPECT_FALSE(taken) << "it takes them without end";
  EXPECT_LT(sent, size_t{16} << 20);
  if (!under_sanitizer()) EXPECT_LT(a_.process.own_memory_kib(), 64u << 10);
}

TEST_F(Attacked, a_hundred_half_frames_cost_nothing_noteworthy) {
  const size_t before = a_.process.own_memory_kib();
  std::vector<std::unique_ptr<Outsider>> outsiders;
  const Bytes data = peer::encode_frame(FrameType::kAsk, 1, Bytes(peer::kFrameBodyMax));
  for (int i = 0; i < 100; ++i) {
    auto outsider = std::make_unique<Outsider>(evil_, a_.process.address());
    if (!outsider->connected()) continue;
    outsider->hello();
    outsider->send(ByteSpan(data).first(data.size() - 1), 500ms);
    outsiders.push_back(std::move(outsider));
  }
  EXPECT_GE(outsiders.size(), 90U);
  if (!under_sanitizer()) EXPECT_LT(a_.process.own_memory_kib(), before + (8 << 10));
  EXPECT_LT(a_.process.descriptors(), 60U) << "there is one connection a site";
}

TEST_F(Attacked, a_certificate_for_something_else_or_of_nobody_is_refused) {
  // Its own authority, but the name of the honest site.
  Authority as_b(2);
  Outsider forged(as_b, a_.process.address());
  ASSERT_TRUE(forged.connected());
  const auto goodbye = forged.receive_type(FrameType::kGoodbye);
  ASSERT_TRUE(goodbye.has_value());
  EXPECT_EQ(peer::decode_error_body(goodbye->body).error.code, ErrorCode::kWrongKey);
  // Not paired at all.
  Outsider unknown(Authority(9), a_.process.address());
  ASSERT_TRUE(unknown.connected());
  EXPECT_EQ(peer::decode_error_body(unknown.receive_type(FrameType::kGoodbye)->body).error.code,
            ErrorCode::kPermission);
  // Another protocol.
  EXPECT_FALSE(Outsider(evil_, a_.process.address(), "holdfast-peer/9").connected());
}

TEST_F(Attacked, first_contacts_are_few_small_and_short) {
  std::atomic<size_t> sessions = 0;
  a_.on_pairing = [&](peer::PairingSession& session) {
    ++sessions;
    static_cast<void>(session.receive(3s));
    static_cast<void>(session.receive(3s));
  };
  std::vector<std::unique_ptr<Outsider>> outsiders;
  for (int i = 0; i < 12; ++i) {
    outsiders.push_back(
        std::make_unique<Outsider>(evil_, a_.process.address(), peer::kAlpnPairing));
  }
  std::this_thread::sleep_for(300ms);
  EXPECT_LE(sessions, 2U);
  outsiders.clear();
  std::this_thread::sleep_for(100ms);
  Outsider large(evil_, a_.process.address(), peer::kAlpnPairing);
  large.send(peer::encode_frame(FrameType::kData, 1, Bytes(10)));
  EXPECT_TRUE(large.is_dropped());
}

// ---- Strangers ----

class Flooded : public Attacked {
 protected:
  struct Times {
    double median_ms = 0;
    double p99_ms = 0;
  };
  Times measure(int count) {
    std::vector<double> times;
    for (int i = 0; i < count; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      EXPECT_TRUE(a_.client->call(b_.authority.id, Bytes(100), 5s).ok());
      times.push_back(
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun)
              .count());
    }
    std::ranges::sort(times);
    return {.median_ms = times[times.size() / 2],
            .p99_ms = times[times.size() - 1 - times.size() / 100]};
  }
  // `total` connections, `at_once` of them open, from a few addresses that are nobody's.
  void flood(size_t total, size_t at_once, const std::atomic<bool>& over) {
    std::deque<sys::UniqueFd> open;
    const Bytes noise = pattern(300, 3);
    for (size_t i = 0; i < total && !over; ++i) {
      const std::string from = "127.0.7." + std::to_string(1 + i % 50);
      sys::UniqueFd fd = Outsider::dial(a_.process.address(), from.c_str());
      ++made_;
      if (!fd) continue;
      // A third is silent, a third babbles, a third begins TLS and stops there.
      if (i % 3 == 1) static_cast<void>(!::write(fd.get(), noise.data(), noise.size()));
      if (i % 3 == 2) {
        static constexpr unsigned char kHalfHello[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
        static_cast<void>(!::write(fd.get(), kHalfHello, sizeof kHalfHello));
      }
      open.push_back(std::move(fd));
      if (open.size() > at_once) open.pop_front();
    }
  }
  void stand(size_t total, size_t at_once) {
    const Times before = measure(200);
    const size_t log_before = a_.process.read_log().size();
    std::atomic<bool> over = false;
    std::thread strangers([&] { flood(total, at_once, over); });
    // Until it is in full swing.
    while (made_ < std::min(at_once, total / 2)) std::this_thread::sleep_for(1ms);
    const Times during = measure(300);
    // A paired site that has to connect anew comes in too.
    b_.process.kill(SIGKILL);
    b_.process.start();
    ASSERT_TRUE(b_.client->wait_ready(10s).ok());
    const auto begun = std::chrono::steady_clock::now();
    Result<Bytes> back = Bytes();
    do {
      back = b_.client->call(a_.authority.id, Bytes(1), 2s);
    } while (!back.ok() && std::chrono::steady_clock::now() - begun < 10s);
    EXPECT_TRUE(back.ok()) << back.error().describe();
    over = total < 10'000;
    strangers.join();
    over = true;
    EXPECT_LT(during.p99_ms, before.p99_ms + 200) << "median " << during.median_ms;
    EXPECT_LT(a_.process.descriptors(), 400U);
    EXPECT_LT(a_.process.read_log().size() - log_before, 20'000U + total / 10)
        << "strangers write the log";
    std::printf("%zu strangers: p99 %.2f ms, %.2f ms before\n", made_.load(), during.p99_ms,
                before.p99_ms);
  }
  std::atomic<size_t> made_ = 0;
};

TEST_F(Flooded, three_thousand_strangers_hold_up_no_site) { stand(3000, 1000); }

// script/nightly runs it: HOLDFAST_STRANGERS=100000.
TEST_F(Flooded, as_many_strangers_as_asked_for) {
  const char* asked = std::getenv("HOLDFAST_STRANGERS");
  if (asked == nullptr) GTEST_SKIP() << "HOLDFAST_STRANGERS is not set";
  stand(static_cast<size_t>(std::atoi(asked)), 1000);
}

// A first contact whose other side floods: `make` gives what it sends next. True: it was cut off
// before it had sent so many bytes.
class FloodedByOne : public Flooded {
 protected:
  static constexpr size_t kFloodMax = size_t{32} << 20;

  bool cut_off(const std::function<Bytes(RawTls&)>& make) {
    RawTls stranger(Authority(9), Outsider::dial(a_.process.address(), "127.0.7.1"),
                    peer::kAlpnPairing);
    if (!stranger.connect()) return false;
    size_t sent = 0;
    while (!over_ && sent < kFloodMax) {
      const Bytes next = make(stranger);
      if (!stranger.send(next)) return stranger.broken();
      sent += next.size();
    }
    return false;
  }
  // That nobody else is held up by it.
  void expect_cut_off(const std::function<Bytes(RawTls&)>& make) {
    auto flood = std::async(std::launch::async, [&] { return cut_off(make); });
    bool answered = true;
    while (answered && flood.wait_for(0ms) != std::future_status::ready)
      answered = a_.client->call(b_.authority.id, Bytes(10), 3s).ok();
    EXPECT_TRUE(answered) << "a paired site was held up";
    over_ = !answered;
    EXPECT_TRUE(flood.get());
  }
  std::atomic<bool> over_ = false;
};

TEST_F(FloodedByOne, a_first_contact_that_goes_on_after_its_end_is_cut_off) {
  // Nobody serves it: it is at its end when it begins.
  expect_cut_off([](RawTls& tls) { return tls.records(Bytes(4000), 1); });
}

TEST_F(FloodedByOne, a_first_contact_that_sends_more_than_there_is_to_say_is_cut_off) {
  std::promise<void> enough;
  a_.on_pairing = [gate = enough.get_future().share()](peer::PairingSession&) { gate.wait(); };
  // Half a message, byte by byte, and nothing but key updates after it.
  bool begun = false;
  expect_cut_off([&](RawTls& tls) {
    if (std::exchange(begun, true)) return tls.key_updates(500);
    const Bytes frame = peer::encode_frame(peer::FrameType::kPair, 0, Bytes(3000));
    return tls.records(ByteSpan(frame).first(2000), 1);
  });
  enough.set_value();
}

TEST_F(FloodedByOne, a_paired_site_that_sends_crumbs_holds_up_no_other) {
  RawTls tls(evil_, Outsider::dial(a_.process.address()), peer::kAlpnSites);
  ASSERT_TRUE(tls.connect());
  ASSERT_TRUE(tls.send(tls.records(peer::encode_hello(), 100)));
  std::thread flood([&] {
    Bytes pings;
    for (int i = 0; i < 200; ++i) {
      const Bytes ping = peer::encode_frame(FrameType::kPing, 0, Bytes(8));
      pings.insert(pings.end(), ping.begin(), ping.end());
    }
    while (!over_ && tls.send(tls.records(pings, 1))) {
    }
  });
  const Times during = measure(200);
  over_ = true;
  flood.join();
  std::printf("under crumbs: p99 %.2f ms, median %.2f\n", during.p99_ms, during.median_ms);
  if (!under_sanitizer()) EXPECT_LT(during.median_ms, 100) << "p99 " << during.p99_ms;
}

TEST_F(Flooded, silent_strangers_are_gone_after_three_seconds) {
  std::vector<sys::UniqueFd> silent;
  for (int i = 0; i < 200; ++i) {
    const std::string from = "127.0.8." + std::to_string(1 + i % 50);
    silent.push_back(Outsider::dial(a_.process.address(), from.c_str()));
  }
  std::this_thread::sleep_for(100ms);
  EXPECT_GT(a_.process.descriptors(), 150U);
  std::this_thread::sleep_for(4s);
  EXPECT_LT(a_.process.descriptors(), 30U);
}

}  // namespace
}  // namespace hf::link::testing
