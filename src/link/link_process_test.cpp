// Two sites: two real holdfast-link processes on the loopback device, a LinkClient beside each.
#include <sys/resource.h>

#include <future>

#include "base/host_port.h"
#include "link/testing.h"
#include "peer/address.h"

namespace hf::link::testing {
namespace {

using peer::Reach;
using Kind = peer::StreamEvent::Kind;

class TwoSites : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::signal(SIGPIPE, SIG_IGN); }
  Result<Bytes> ask(Site& from, Site& to, ByteSpan request, Millis limit = 10s) {
    return from.client->call(to.authority.id, request, limit);
  }
  Site a_{1};
  Site b_{2};
};

TEST_F(TwoSites, questions_of_every_size_are_answered_both_ways) {
  pair_up(a_, b_);
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{16'000}, size_t{16'384}, size_t{50'000}, peer::kRequestMax}) {
    const Bytes request = pattern(size, 1);
    const Result<Bytes> there = ask(a_, b_, request);
    ASSERT_TRUE(there.ok()) << size << ": " << there.error().describe();
    EXPECT_EQ(*there, request);
    EXPECT_EQ(*ask(b_, a_, request), request);
  }
  b_.on_request = [](SiteId, ByteSpan, Millis) { return pattern(peer::kAnswerMax, 3); };
  EXPECT_EQ(*ask(a_, b_, Bytes(1)), pattern(peer::kAnswerMax, 3));
  b_.on_request = [](SiteId, ByteSpan, Millis) { return Bytes(peer::kAnswerMax + 1); };
  EXPECT_EQ(ask(a_, b_, Bytes(1)).error().code, ErrorCode::kLimit);
  EXPECT_EQ(ask(a_, b_, Bytes(peer::kRequestMax + 1)).error().code, ErrorCode::kLimit);
}

TEST_F(TwoSites, an_error_of_the_other_daemon_arrives_with_all_its_parts) {
  SiteId from;
  Millis limit{0};
  pair_up(a_, b_);
  b_.on_request = [&](SiteId site, ByteSpan, Millis wait) -> Result<Bytes> {
    from = site;
    limit = wait;
    return Error{
        .code = ErrorCode::kConflict, .cause = "c\x1b]0;owned\a", .effect = "e", .mend = "m"};
  };
  const Error error = ask(a_, b_, Bytes(1), 1234ms).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_EQ(error.cause.find('\x1b'), std::string::npos);
  EXPECT_EQ(error.effect, "e");
  EXPECT_EQ(error.mend, "m");
  EXPECT_EQ(from, a_.authority.id);
  EXPECT_EQ(limit, 1234ms);
}

TEST_F(TwoSites, a_daemon_that_does_not_answer_is_not_waited_for_longer_than_said) {
  pair_up(a_, b_);
  std::promise<void> go;
  auto gate = go.get_future().share();
  b_.on_request = [gate](SiteId, ByteSpan, Millis) {
    gate.wait();
    return Bytes();
  };
  EXPECT_EQ(ask(a_, b_, Bytes(1), 200ms).error().code, ErrorCode::kTimeout);
  go.set_value();
  b_.on_request = nullptr;
  EXPECT_TRUE(ask(a_, b_, Bytes(1)).ok()) << "the next one is not disturbed";
}

TEST_F(TwoSites, a_stream_carries_megabytes_both_ways_and_ends_in_order) {
  pair_up(a_, b_);
  peer::StreamId id;
  peer::StreamId their_id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1), &their_id);
  ASSERT_TRUE(there.valid());
  ASSERT_TRUE(a_.record.wait_stream(id, Kind::kOpened).has_value());
  const Bytes up = pattern(24u << 20, 1);
  const Bytes down = pattern(17u << 20, 2);
  auto writer = [](int fd, const Bytes& bytes) {
    EXPECT_TRUE(sys::send_all(fd, bytes, 60s).ok());
    ::shutdown(fd, SHUT_WR);
  };
  std::thread first([&] { writer(here.get(), up); });
  std::thread second([&] { writer(there.get(), down); });
  auto got_up = std::async(std::launch::async, [&] { return read_to_end(there.get()); });
  const Bytes got_down = read_to_end(here.get());
  EXPECT_EQ(got_down, down);
  EXPECT_EQ(got_up.get(), up);
  first.join();
  second.join();
  const auto ended = a_.record.wait_stream(id, Kind::kEnded);
  ASSERT_TRUE(ended.has_value());
  EXPECT_FALSE(ended->error.has_value()) << ended->error->describe();
  const auto ended_there = b_.record.wait_stream(their_id, Kind::kEnded);
  ASSERT_TRUE(ended_there.has_value());
  EXPECT_FALSE(ended_there->error.has_value());
  EXPECT_TRUE(ended_there->incoming);
}

TEST_F(TwoSites, a_keeper_that_does_not_read_holds_up_itself_alone) {
  pair_up(a_, b_);
  sys::UniqueFd slow_here = a_.open(b_, test_vm(1));
  sys::UniqueFd slow_there = b_.taken(test_vm(1));
  sys::UniqueFd quick_here = a_.open(b_, test_vm(2));
  sys::UniqueFd quick_there = b_.taken(test_vm(2));
  ASSERT_TRUE(slow_there.valid() && quick_there.valid());
  // As much as goes: the window and what the kernels hold.
  const Bytes block = pattern(64 << 10, 5);
  size_t taken = 0;
  while (sys::send_all(slow_here.get(), block, 300ms).ok()) {
    taken += block.size();
    ASSERT_LT(taken, size_t{16} << 20) << "nothing pushes back";
  }
  EXPECT_LT(b_.process.own_memory_kib(), 24u << 10);
  const Bytes all = pattern(8u << 20, 6);
  std::thread writer([&] {
    EXPECT_TRUE(sys::send_all(quick_here.get(), all, 30s).ok());
    ::shutdown(quick_here.get(), SHUT_WR);
  });
  EXPECT_EQ(read_to_end(quick_there.get()), all);
  writer.join();
  EXPECT_TRUE(ask(a_, b_, Bytes(10), 2s).ok());
  // And it goes on where it was.
  ::shutdown(slow_here.get(), SHUT_WR);
  const Bytes late = read_to_end(slow_there.get());
  EXPECT_GE(late.size(), taken);
  EXPECT_TRUE(std::equal(block.begin(), block.end(), late.begin()));
}

TEST_F(TwoSites, questions_pass_streams_that_are_under_full_load) {
  pair_up(a_, b_);
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  std::atomic<uint64_t> carried = 0;
  std::vector<sys::UniqueFd> ends;
  for (uint8_t vm = 1; vm <= 4; ++vm) {
    ends.push_back(a_.open(b_, test_vm(vm)));
    ends.push_back(b_.taken(test_vm(vm)));
    ASSERT_TRUE(ends.back().valid());
    threads.emplace_back([fd = ends[ends.size() - 2].get(), &over] {
      const Bytes block(256 << 10);
      while (!over && sys::send_all(fd, block, 5s).ok()) {
      }
    });
    threads.emplace_back([fd = ends.back().get(), &carried] {
      Bytes buffer(256 << 10);
      for (;;) {
        const auto got = sys::receive_some(fd, buffer, 5s);
        if (!got.ok() || *got == 0) return;
        carried += *got;
      }
    });
  }
  std::vector<double> times_ms;
  for (int i = 0; i < 200; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    ASSERT_TRUE(ask(a_, b_, Bytes(100)).ok());
    times_ms.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun)
            .count());
  }
  over = true;
  for (const sys::UniqueFd& fd : ends) ::shutdown(fd.get(), SHUT_RDWR);
  for (std::thread& thread : threads) thread.join();
  std::ranges::sort(times_ms);
  EXPECT_GT(carried, 1u << 20);
  EXPECT_LT(times_ms[197], 150) << "p99; median " << times_ms[100];
}

TEST_F(TwoSites, a_refusal_arrives_with_its_detail) {
  pair_up(a_, b_);
  b_.refuse_stream = [](const peer::StreamAsk&) {
    return peer::StreamRefusal{.error = {.code = ErrorCode::kConflict,
                                         .cause = "not a replica",
                                         .effect = "nothing was received",
                                         .mend = "holdfast vm show"},
                               .detail = {{"refusal", "stale epoch"}, {"epoch", 7}}};
  };
  peer::StreamId id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  const auto ended = a_.record.wait_stream(id, Kind::kEnded);
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(ended->refused);
  EXPECT_EQ(ended->error->cause, "not a replica");
  EXPECT_EQ(ended->error->mend, "holdfast vm show");
  EXPECT_EQ(ended->detail.at("epoch").as_int64(), 7);
  std::byte byte;
  EXPECT_EQ(*sys::receive_some(here.get(), MutableByteSpan(&byte, 1), 5s), 0U) << "closed";
}

TEST_F(TwoSites, when_a_keeper_goes_both_daemons_learn_it) {
  pair_up(a_, b_);
  peer::StreamId id;
  peer::StreamId their_id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1), &their_id);
  ASSERT_TRUE(there.valid());
  there.reset();
  // Its socket is closed both ways: what is sent to it fails.
  while (sys::send_all(here.get(), pattern(1 << 16, 1), 1s).ok()) {
  }
  EXPECT_TRUE(a_.record.wait_stream(id, Kind::kEnded).has_value());
  EXPECT_TRUE(b_.record.wait_stream(their_id, Kind::kEnded).has_value());
}

TEST_F(TwoSites, a_stream_ends_when_a_daemon_says_so) {
  pair_up(a_, b_);
  peer::StreamId id;
  peer::StreamId their_id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1), &their_id);
  ASSERT_TRUE(a_.record.wait_stream(id, Kind::kOpened).has_value());
  b_.client->close_stream(their_id);
  EXPECT_TRUE(a_.record.wait_stream(id, Kind::kEnded)->error.has_value());
  EXPECT_TRUE(b_.record.wait_stream(their_id, Kind::kEnded).has_value());
  EXPECT_TRUE(read_to_end(here.get()).empty());
  EXPECT_TRUE(read_to_end(there.get()).empty());
}

TEST_F(TwoSites, the_death_of_a_link_is_a_gap) {
  pair_up(a_, b_, true);
  ASSERT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kConnected));
  peer::StreamId id;
  peer::StreamId their_id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1), &their_id);
  ASSERT_TRUE(there.valid());
  for (Site* dies : {&b_, &a_}) {
    dies->process.kill(SIGKILL);
    EXPECT_TRUE(a_.record.wait_stream(id, Kind::kEnded)->error.has_value());
    EXPECT_TRUE(b_.record.wait_stream(their_id, Kind::kEnded)->error.has_value());
    const auto begun = std::chrono::steady_clock::now();
    dies->process.start();
    ASSERT_TRUE(dies->client->wait_ready(10s).ok());
    // Whoever asks meanwhile may be told that it is gone; never that all is well.
    Result<Bytes> answer = Bytes();
    do {
      answer = ask(a_, b_, pattern(10, 1), 2s);
    } while (!answer.ok() && std::chrono::steady_clock::now() - begun < 20s);
    ASSERT_TRUE(answer.ok()) << answer.error().describe();
    EXPECT_EQ(*answer, pattern(10, 1));
    here = a_.open(b_, test_vm(1), &id);
    there = b_.taken(test_vm(1), &their_id);
    ASSERT_TRUE(there.valid());
  }
  ASSERT_TRUE(sys::send_all(here.get(), pattern(10, 2), 1s).ok());
  Bytes got(10);
  ASSERT_TRUE(sys::receive_some(there.get(), got, 5s).ok());
  EXPECT_EQ(got, pattern(10, 2));
}

TEST_F(TwoSites, streams_outlive_no_daemon_but_its_death_ends_none_before_the_next_one_comes) {
  pair_up(a_, b_);
  peer::StreamId id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1));
  ASSERT_TRUE(there.valid());
  ASSERT_TRUE(a_.record.wait_stream(id, Kind::kOpened).has_value()) << "else it ends with a daemon";
  a_.client.reset();
  ASSERT_TRUE(sys::send_all(here.get(), pattern(1000, 2), 1s).ok());
  Bytes got(1000);
  ASSERT_TRUE(sys::receive_some(there.get(), got, 5s).ok());
  a_.run({b_.as_peer()});
  EXPECT_TRUE(read_to_end(there.get(), 10s).empty());
  EXPECT_TRUE(ask(a_, b_, Bytes(1)).ok());
}

TEST_F(TwoSites, a_daemon_that_is_away_is_told_from_a_host_that_is) {
  pair_up(a_, b_);
  ASSERT_TRUE(ask(a_, b_, Bytes(1)).ok());
  b_.client.reset();
  Error error = ask(a_, b_, Bytes(1), 5s).error();
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_NE(error.cause.find("holdfastd"), std::string::npos) << error.cause;
  peer::StreamId id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  EXPECT_TRUE(a_.record.wait_stream(id, Kind::kEnded)->refused);
  b_.process.kill(SIGKILL);
  error = ask(a_, b_, Bytes(1), 500ms).error();
  EXPECT_EQ(error.cause.find("holdfastd does not"), std::string::npos) << error.cause;
}

// By link_client.h: whoever orders a stop has to know whether it was asked.
TEST_F(TwoSites, what_was_never_asked_is_told_from_what_may_have_been_done) {
  // Its port is there and nobody speaks.
  const BoundListener mute = listen_tcp();
  peer::PeerSettings silent = b_.as_peer();
  silent.address = mute.address;
  a_.run({silent});
  peer::Delivery delivery{.within = 300ms};
  auto call = [&](Millis limit) {
    return a_.client->call(b_.authority.id, Bytes(10), limit, &delivery);
  };
  auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(call(20s).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(delivery.unheard) << "no connection in time";
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 3s);
  delivery.within = peer::kQuestionLimitMax;
  EXPECT_EQ(call(300ms).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(delivery.unheard) << "nor within the whole limit";

  b_.run({a_.as_peer()});
  ASSERT_TRUE(a_.client->set_peer(b_.as_peer()).ok());
  ASSERT_TRUE(call(10s).ok());
  EXPECT_FALSE(delivery.unheard);
  std::promise<void> asked;
  std::promise<void> go;
  b_.on_request = [&, gate = go.get_future().share()](SiteId, ByteSpan, Millis) -> Result<Bytes> {
    asked.set_value();
    gate.wait();
    return Error{.code = ErrorCode::kUnavailable, .cause = "its own words"};
  };
  EXPECT_EQ(call(200ms).error().code, ErrorCode::kTimeout);
  EXPECT_FALSE(delivery.unheard) << "it was on its way";
  go.set_value();
  asked = {};
  EXPECT_EQ(call(10s).error().cause, "its own words");
  EXPECT_FALSE(delivery.unheard) << "it was answered";
  asked = {};
  std::promise<void> never;
  b_.on_request = [&, gate = never.get_future().share()](SiteId, ByteSpan, Millis) {
    asked.set_value();
    gate.wait();
    return Bytes();
  };
  auto lost = std::async(std::launch::async, [&] { return call(20s); });
  asked.get_future().wait();
  b_.process.kill(SIGKILL);
  EXPECT_EQ(lost.get().error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(delivery.unheard) << "the connection was lost while it was asked";
  EXPECT_EQ(call(5s).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(delivery.unheard) << "its port is there, and nobody answers";
  never.set_value();
  b_.client.reset();
  b_.process.start();
  begun = std::chrono::steady_clock::now();
  EXPECT_FALSE(call(20s).ok());
  EXPECT_TRUE(delivery.unheard) << "a link without its daemon";
}

TEST_F(TwoSites, who_is_not_there_is_said_at_once) {
  const BoundListener nobody = [] {
    BoundListener listener = listen_tcp();
    listener.fd.reset();
    return listener;
  }();
  peer::PeerSettings peer = b_.as_peer();
  peer.address = nobody.address;
  a_.run({peer});
  const auto begun = std::chrono::steady_clock::now();
  const Error error = ask(a_, b_, Bytes(1), 30s).error();
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_NE(error.cause.find("site2"), std::string::npos);
  EXPECT_NE(error.cause.find("refused"), std::string::npos) << error.cause;
  EXPECT_FALSE(error.mend.empty());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kUnreachable));
  // Its address changes: the next question finds it.
  b_.run({a_.as_peer()});
  ASSERT_TRUE(a_.client->set_peer(b_.as_peer()).ok());
  EXPECT_TRUE(ask(a_, b_, Bytes(1)).ok());
}

TEST_F(TwoSites, another_authority_is_no_peer_and_both_sides_say_so) {
  const Authority forged(2);
  peer::PeerSettings wrong = b_.as_peer();
  wrong.ca_pem = forged.ca.to_pem();
  a_.run({wrong});
  b_.run({a_.as_peer()});
  const Error error = ask(a_, b_, Bytes(1), 5s).error();
  EXPECT_EQ(error.code, ErrorCode::kWrongKey) << error.describe();
  EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kWrongCertificate));
  EXPECT_EQ(to_string(a_.record.state(b_.authority.id).reach), "wrong certificate");
  // The other way round the one who answers refuses, and says why.
  const Error refused = ask(b_, a_, Bytes(1), 5s).error();
  EXPECT_NE(refused.cause.find("not who it was at pairing"), std::string::npos) << refused.cause;
  EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kWrongCertificate));
}

TEST_F(TwoSites, who_is_not_paired_is_told_so_and_gets_nothing) {
  a_.run({b_.as_peer()});
  b_.run({});
  const Error error = ask(a_, b_, Bytes(1), 5s).error();
  EXPECT_NE(error.cause.find("is not paired with site2"), std::string::npos) << error.describe();
  EXPECT_EQ(ask(b_, a_, Bytes(1), 5s).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(b_.client->set_peer(a_.as_peer()).ok());
  EXPECT_TRUE(ask(a_, b_, Bytes(1)).ok());
}

TEST_F(TwoSites, a_peer_that_is_removed_loses_its_connection_and_its_streams) {
  pair_up(a_, b_);
  peer::StreamId id;
  sys::UniqueFd here = a_.open(b_, test_vm(1), &id);
  sys::UniqueFd there = b_.taken(test_vm(1));
  ASSERT_TRUE(there.valid());
  b_.client->remove_peer(a_.authority.id);
  EXPECT_TRUE(a_.record.wait_stream(id, Kind::kEnded)->error.has_value());
  EXPECT_TRUE(read_to_end(there.get(), 5s).empty());
  EXPECT_FALSE(ask(a_, b_, Bytes(1), 2s).ok());
}

TEST_F(TwoSites, both_that_connect_at_the_same_time_end_with_one_connection) {
  for (int round = 0; round < 5; ++round) {
    pair_up(a_, b_, true);
    std::vector<std::future<bool>> asks;
    for (int i = 0; i < 8; ++i) {
      asks.push_back(std::async(std::launch::async, [&, i] {
        return i % 2 == 0 ? ask(a_, b_, Bytes(1)).ok() : ask(b_, a_, Bytes(1)).ok();
      }));
    }
    for (auto& one : asks) EXPECT_TRUE(one.get());
    EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kConnected));
    EXPECT_TRUE(b_.record.wait_reach(a_.authority.id, Reach::kConnected));
    a_.client.reset();
    b_.client.reset();
    a_.process.kill(SIGKILL);
    b_.process.kill(SIGKILL);
    a_.process.start();
    b_.process.start();
  }
}

TEST_F(TwoSites, a_first_contact_passes_messages_and_what_proofs_are_made_of) {
  a_.run({});
  b_.run({});
  std::promise<Digest> exporter;
  std::promise<bool> leaf_is_theirs;
  b_.on_pairing = [&](peer::PairingSession& session) {
    EXPECT_TRUE(session.incoming());
    exporter.set_value(session.exporter());
    leaf_is_theirs.set_value(
        peer::verify_peer(session.peer_chain(), a_.authority.ca, a_.authority.id).ok());
    const auto message = session.receive(5s);
    ASSERT_TRUE(message.ok());
    EXPECT_EQ(message->at("n").as_int64(), 1);
    ASSERT_TRUE(session.send({{"n", 2}}).ok());
    EXPECT_EQ(session.receive(5s)->at("n").as_int64(), 3);
    ASSERT_TRUE(
        session.send({{"error", sys::error_to_json({.code = ErrorCode::kWrongKey, .cause = "no"})}})
            .ok());
  };
  auto session = a_.client->pair(b_.process.address(), 5s);
  ASSERT_TRUE(session.ok()) << session.error().describe();
  EXPECT_EQ(exporter.get_future().get(), (*session)->exporter());
  EXPECT_TRUE(leaf_is_theirs.get_future().get());
  bool names_authority = false;
  for (const crypto::Certificate& one : (*session)->peer_chain())
    names_authority |= one.fingerprint() == b_.authority.ca.fingerprint();
  EXPECT_TRUE(names_authority) << "the bearer of a token looks for it there";
  ASSERT_TRUE((*session)->send({{"n", 1}}).ok());
  EXPECT_EQ((*session)->receive(5s)->at("n").as_int64(), 2);
  ASSERT_TRUE((*session)->send({{"n", 3}}).ok());
  const auto last = (*session)->receive(5s);
  EXPECT_EQ(last.error().code, ErrorCode::kWrongKey) << "the last words before the end arrive";
  EXPECT_EQ((*session)->receive(5s).error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(a_.client->pair("127.0.0.1:1", 2s).ok());
}

TEST_F(TwoSites, names_are_looked_up) {
  b_.run({a_.as_peer()});
  peer::PeerSettings by_name = b_.as_peer();
  by_name.address = "localhost:" + std::to_string(parse_host_port(by_name.address)->port);
  a_.run({by_name});
  Result<Bytes> answer = Bytes();
  for (int i = 0; i < 50; ++i) {
    answer = ask(a_, b_, Bytes(3), 2s);
    if (answer.ok()) break;
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_TRUE(answer.ok()) << answer.error().describe();
}

// The name leads to an address where nobody is, then to another site's, then to where it is: each
// time long after the link first failed.
TEST_F(TwoSites, a_host_that_moved_is_found_by_its_name) {
  const BoundListener nobody = [] {
    BoundListener listener = listen_tcp();
    listener.fd.reset();
    return listener;
  }();
  Site other(3);
  other.run({});
  std::mutex mutex;
  std::string leads_to = nobody.address;
  auto move_to = [&](const std::string& address) {
    const std::lock_guard lock(mutex);
    leads_to = address;
  };
  peer::PeerSettings by_name = b_.as_peer(true);
  by_name.address = "b.invalid:1";
  a_.run({by_name}, {.resolve =
                         [&](const std::string&) {
                           const std::lock_guard lock(mutex);
                           return std::vector<std::string>{leads_to};
                         },
                     .look_up_again = 500ms});
  ASSERT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kUnreachable));
  std::this_thread::sleep_for(600ms);
  move_to(other.process.address());
  EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kWrongCertificate, 20s));
  std::this_thread::sleep_for(600ms);
  b_.run({a_.as_peer()});
  move_to(b_.process.address());
  EXPECT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kConnected, 20s));
  EXPECT_LT(a_.process.read_log().size(), 10'000U);
}

TEST_F(TwoSites, without_descriptors_left_it_does_not_burn_the_processor) {
  a_.run({});
  const rlimit all{.rlim_cur = 1024, .rlim_max = 1024};
  const rlimit none{.rlim_cur = a_.process.descriptors(), .rlim_max = 1024};
  ASSERT_EQ(::prlimit(a_.process.pid(), RLIMIT_NOFILE, &none, nullptr), 0);
  const auto second =
      sys::connect_unix_within(a_.process.socket_path(), 1s, sys::SocketType::kSeqPacket);
  ASSERT_TRUE(second.ok());
  const Millis before = a_.process.processor_time();
  std::this_thread::sleep_for(1s);
  EXPECT_LT(a_.process.processor_time() - before, 200ms);
  ASSERT_EQ(::prlimit(a_.process.pid(), RLIMIT_NOFILE, &all, nullptr), 0);
  // It takes the place of the first then, and is told the link's key.
  EXPECT_TRUE(*sys::wait_ready(second->get(), POLLIN, 5s));
}

TEST_F(TwoSites, one_thread_and_hardly_a_wake_up_when_nothing_happens) {
  pair_up(a_, b_, true);
  ASSERT_TRUE(a_.record.wait_reach(b_.authority.id, Reach::kConnected));
  ASSERT_TRUE(ask(a_, b_, Bytes(1)).ok());
  std::vector<sys::UniqueFd> streams;
  for (uint8_t vm = 1; vm <= 20; ++vm) {
    streams.push_back(a_.open(b_, test_vm(vm)));
    streams.push_back(b_.taken(test_vm(vm)));
  }
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(a_.process.threads(), 1U);
  const size_t before = a_.process.voluntary_switches() + b_.process.voluntary_switches();
  std::this_thread::sleep_for(7s);
  const size_t after = a_.process.voluntary_switches() + b_.process.voluntary_switches();
  EXPECT_LE(after - before, 14U) << "a ping of each side, and what comes of it";
  EXPECT_TRUE(ask(a_, b_, Bytes(1)).ok());
}

TEST_F(TwoSites, it_ends_when_told_to) {
  a_.run({});
  a_.process.kill(SIGTERM);
  ASSERT_TRUE(a_.process.exit().has_value());
  EXPECT_EQ(a_.process.exit()->status, 0);
  EXPECT_EQ(a_.process.exit()->signal, 0);
}

}  // namespace
}  // namespace hf::link::testing
