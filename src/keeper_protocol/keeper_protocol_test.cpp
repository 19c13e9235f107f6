#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper_protocol/client.h"
#include "keeper_protocol/config.h"
#include "sys/bounded_io.h"

namespace hf::keeper_protocol {
namespace {

template <typename C>
C config_of_all() {
  C config;
  config.vm.bytes.fill(std::byte{0xaa});
  config.site.bytes.fill(std::byte{0xbb});
  config.epoch = Epoch(3);
  config.journal_dir = "/j";
  config.vault_socket = "/v";
  return config;
}

std::string cause_of(const sys::JsonObject& config) {
  const auto decoded = decode_config(sys::to_text(config));
  return decoded.ok() ? "taken" : decoded.error().cause;
}

TEST(KeeperConfig, each_mode_comes_back_as_it_went) {
  auto serve = config_of_all<ServeConfig>();
  serve.volumes = {{.id = VolumeId(1), .name = "disk1", .size_bytes = 1048576}};
  serve.peer_site.emplace().bytes.fill(std::byte{0xcc});
  auto decoded = decode_config(sys::to_text(encode_config(serve)));
  ASSERT_TRUE(decoded.ok()) << decoded.error().describe();
  const auto& back = std::get<ServeConfig>(*decoded);
  EXPECT_EQ(back.volumes.at(0).name, "disk1");
  EXPECT_EQ(back.peer_site, serve.peer_site);
  EXPECT_EQ(back.epoch, Epoch(3));

  auto replica = config_of_all<ReplicaConfig>();
  replica.public_key.fill(std::byte{7});
  replica.create = true;
  decoded = decode_config(sys::to_text(encode_config(Config(replica))));
  ASSERT_TRUE(decoded.ok()) << decoded.error().describe();
  EXPECT_EQ(std::get<ReplicaConfig>(*decoded).public_key, replica.public_key);
  EXPECT_TRUE(std::get<ReplicaConfig>(*decoded).create);

  decoded = decode_config(sys::to_text(encode_config(config_of_all<CaretakerConfig>())));
  EXPECT_TRUE(std::holds_alternative<CaretakerConfig>(*decoded));
  decoded = decode_config(sys::to_text(encode_config(config_of_all<CreateConfig>())));
  EXPECT_TRUE(std::holds_alternative<CreateConfig>(*decoded));
}

TEST(KeeperConfig, refuses_what_cannot_be) {
  sys::JsonObject good = encode_config(config_of_all<ServeConfig>());
  EXPECT_EQ(cause_of(good), "taken");
  const auto with = [&](std::string_view name, const sys::JsonValue& value) {
    sys::JsonObject config = good;
    config[boost::json::string_view(name.data(), name.size())] = value;
    return cause_of(config);
  };
  const auto volumes = [&](std::string_view list) {
    return with("volumes", *sys::parse_json(list));
  };
  EXPECT_EQ(with("mode", "dance"),
            "keeper configuration: member \"mode\" is \"dance\", not one of create, serve, "
            "replica, caretaker");
  EXPECT_EQ(with("epoch", 0),
            "keeper configuration: member \"epoch\" is 0, not from 1 to 4611686018427387904");
  EXPECT_EQ(with("create", true), "keeper configuration: unknown member \"create\"");
  EXPECT_EQ(with("segment_bytes", 1000),
            "keeper configuration: member \"segment_bytes\" is 1000, not from 4194304 to "
            "268435456");
  EXPECT_EQ(volumes(R"([{"id":0,"name":"x","size_bytes":512}])"),
            "keeper configuration: member \"volumes[0].id\" is 0, not from 1 to 4294967295");
  EXPECT_EQ(volumes(R"([{"id":1,"name":"x","size_bytes":513}])"),
            "keeper configuration: volumes[0]: size of volume x is not a multiple of 512");
  EXPECT_EQ(
      volumes(R"([{"id":1,"name":"x","size_bytes":512},{"id":1,"name":"y","size_bytes":512}])"),
      "keeper configuration: two volumes of one id or name");
  EXPECT_FALSE(decode_config("{}").ok());
  EXPECT_FALSE(decode_config("[").ok());
}

TEST(KeeperControl, questions_come_back_as_they_went) {
  const auto there_and_back = [](const auto& question) {
    auto decoded = decode_question(sys::to_text(sys::encode_operation(question)));
    EXPECT_TRUE(decoded.ok()) << decoded.error().cause;
    return std::get<std::remove_cvref_t<decltype(question)>>(*decoded);
  };
  EXPECT_EQ(there_and_back(Drain{.limit_ms = 700}).limit_ms, 700u);
  there_and_back(Seal{});
  EXPECT_EQ(there_and_back(Quote{.nonce = Bytes(16), .selection = {{"sha256", {0, 7}}}})
                .selection.at("sha256"),
            (std::vector<uint8_t>{0, 7}));
  EXPECT_FALSE(there_and_back(BootFiles{}).ticket);
  EXPECT_EQ(there_and_back(BootFiles{.ticket = 4}).ticket, 4u);
  EXPECT_EQ(decode_question(R"({"op":"status","from":1})").error().cause,
            "unknown member \"from\"");
  EXPECT_EQ(decode_question(R"({"op":"drain","limit_ms":600001})").error().cause,
            "member \"limit_ms\" is 600001, not from 0 to 600000");
  EXPECT_EQ(
      decode_question(R"({"op":"quote","nonce":"AAAA","selection":{"sha256":[24]}})").error().cause,
      "member \"selection.sha256[0]\" is 24, not from 0 to 23");
}

TEST(KeeperControl, answers_come_back_as_they_went) {
  ReplicaStatus status{.pid = 7, .connected = true, .epoch = Epoch(2), .home_durable = Sequence(9)};
  status.durable.sequence = Sequence(5);
  status.error = Error{.code = ErrorCode::kNoSpace, .cause = "full"};
  const std::string line = sys::to_text(encode_answer(encode_reply(AnyStatus(status))));
  const auto decoded = decode_reply<AnyStatus>(*decode_answer(line));
  ASSERT_TRUE(decoded.ok()) << decoded.error().cause;
  const auto& back = std::get<ReplicaStatus>(*decoded);
  EXPECT_EQ(back.durable, status.durable);
  EXPECT_EQ(back.error->code, ErrorCode::kNoSpace);
  EXPECT_TRUE(decode_reply<Nothing>(*decode_answer(R"({"ok":true})")).ok());
  const auto refused = decode_answer(encode_refusal({.code = ErrorCode::kConflict, .cause = "c"}));
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
}

TEST(KeeperControl, a_client_says_that_nobody_is_there) {
  const auto answer =
      Client("/nowhere/control.sock").ask(GetStatus{}, std::chrono::milliseconds(50));
  ASSERT_FALSE(answer.ok());
  EXPECT_FALSE(answer.error().mend.empty());
}

TEST(KeeperControl, an_answer_may_be_left_for_later) {
  using std::chrono::milliseconds;
  const std::string path = "/tmp/keeper-protocol-" + std::to_string(::getpid());
  auto listener = sys::listen_unix(path, sys::SocketType::kStream);
  ASSERT_TRUE(listener.ok()) << listener.error().cause;
  auto asked = Client(path).begin(Measurements{.from = 3, .wait_ms = 1000}, milliseconds(500));
  ASSERT_TRUE(asked.ok()) << asked.error().cause;
  const sys::UniqueFd keeper(::accept(listener->get(), nullptr, nullptr));
  ASSERT_TRUE(keeper);
  std::byte line[256];
  const auto got = sys::receive_some(keeper.get(), line, milliseconds(500));
  ASSERT_TRUE(got.ok());
  const auto question = decode_question(as_text(ByteSpan(line).first(*got - 1)));
  ASSERT_TRUE(question.ok()) << question.error().cause;
  EXPECT_EQ(std::get<Measurements>(*question).from, 3U);

  EXPECT_FALSE(*sys::wait_ready(asked->fd(), POLLIN, milliseconds(20)));
  const std::string answer = sys::to_text(encode_answer({{"total", 4}})) + "\n";
  // Half a line is no answer yet.
  ASSERT_TRUE(sys::send_all(keeper.get(), as_bytes(answer.substr(0, 5)), milliseconds(500)).ok());
  ASSERT_TRUE(sys::send_all(keeper.get(), as_bytes(answer.substr(5)), milliseconds(500)).ok());
  EXPECT_TRUE(*sys::wait_ready(asked->fd(), POLLIN, milliseconds(500)));
  const auto taken = asked->take(milliseconds(500));
  ASSERT_TRUE(taken.ok()) << taken.error().cause;
  EXPECT_EQ(*sys::get_u64(*taken, "total"), 4U);
  EXPECT_EQ(asked->take(milliseconds(20)).error().code, ErrorCode::kTimeout);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace hf::keeper_protocol
