//! Where the checks begin, and how a counterexample is made short.

use stateright::Model;

use super::{
    Lifecycle,
    liar::Lie,
    state::{Kind, State},
    step::Action,
};

/// Nothing yet; a record that every node has; the same, deleted everywhere, with an older copy of one
/// disk; two creates of one key, one of them still on its way to where the other is deleted. All are
/// reachable from the first; beginning with each reaches deeper in as many steps.
pub fn worlds(model: &Lifecycle) -> Vec<State> {
    let client = |node, kind, key| Action::Client { node, kind, key };
    let pull = |puller, donor, operation| Action::Pull { puller, donor, operation };
    let greetings: Vec<_> = model.pairs().map(|(puller, donor)| Action::Hello { puller, donor }).collect();
    let spread = [vec![client(0, Kind::Create, 0), pull(1, 0, 0), pull(2, 0, 0)], greetings.clone()].concat();
    let delete = [Action::Copy { node: 2 }, client(1, Kind::Delete, 0), pull(0, 1, 1), pull(2, 1, 1)];
    let deleted = [spread.clone(), delete.to_vec(), greetings].concat();
    let on_its_way = vec![
        client(1, Kind::Create, 0),
        client(2, Kind::Create, 0),
        Action::Send { puller: 2, donor: 1, operation: 0 },
        client(2, Kind::Delete, 0),
        pull(0, 2, 1),
        pull(0, 2, 2),
    ];
    let all = match model.byzantine {
        None => vec![Vec::new(), spread, deleted, on_its_way],
        Some(_) => beside(model),
    };
    // Some budgets do not allow all of them.
    all.iter().filter_map(|actions| replay(model, State::default(), actions)).collect()
}

/// Beside a node that was taken over: nothing yet; a record that both others have, deleted at one of them; a record of
/// which the log is compacted, and a node without it; two histories, of which each of the others has one.
fn beside(model: &Lifecycle) -> Vec<Vec<Action>> {
    let others: Vec<usize> = model.honest().collect();
    let (one, other) = (others[0], others[1]);
    let client = |node, kind| Action::Client { node, kind, key: 0 };
    let spread = vec![
        client(one, Kind::Create),
        Action::Pull { puller: other, donor: one, operation: 0 },
        Action::Hello { puller: other, donor: one },
    ];
    let deleted = [spread.clone(), vec![client(one, Kind::Delete)]].concat();
    let lost = [Action::Compact { node: one, operation: 0 }, Action::Lose { node: other }];
    let compacted = [spread, lost.to_vec()].concat();
    let sign = |key| Action::Lie(Lie::Sign { kind: Kind::Create, key, after: None });
    let feed = |puller, operation| Action::Lie(Lie::Feed { puller, operation, payload: true });
    let forked = vec![sign(0), sign(0), feed(one, 0), feed(other, 1)];
    vec![Vec::new(), deleted, compacted, forked]
}

/// The state after these steps; `None` if one is not possible.
pub fn replay(model: &Lifecycle, mut state: State, actions: &[Action]) -> Option<State> {
    for action in actions {
        let mut possible = Vec::new();
        model.actions(&state, &mut possible);
        if !possible.contains(action) {
            return None;
        }
        model.take(&mut state, *action);
    }
    Some(state)
}

/// Leaves out steps as long as the property is still violated in the end.
pub fn shrink(model: &Lifecycle, start: &State, mut actions: Vec<Action>, property: &str) -> Vec<Action> {
    let property = model.properties().into_iter().find(|known| known.name == property).unwrap();
    let violated = |actions: &[Action]| {
        replay(model, *start, actions).is_some_and(|state| !(property.condition)(model, &state))
    };
    while let Some(shorter) =
        (0..actions.len()).map(|end| actions[..end].to_vec()).find(|actions| violated(actions))
    {
        actions = shorter;
    }
    loop {
        let without = |left_out: &[usize]| -> Vec<Action> {
            actions
                .iter()
                .enumerate()
                .filter(|(i, _)| !left_out.contains(i))
                .map(|(_, action)| *action)
                .collect()
        };
        let ones = (0..actions.len()).map(|i| without(&[i]));
        let pairs = (0..actions.len()).flat_map(|i| (0..i).map(move |j| [j, i])).map(|pair| without(&pair));
        match ones.chain(pairs).find(|shorter| violated(shorter)) {
            Some(shorter) => actions = shorter,
            None => return actions,
        }
    }
}
